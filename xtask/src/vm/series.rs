//! The versions of Linux that a VM can boot.

use clap::ValueEnum;

use crate::apt::Suite;

/// A series of Debian's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Series {
    /// Of Debian 11
    #[value(name = "5.10")]
    V5_10,
    /// Of Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Of Debian 13, and the newer one for Debian 12
    #[value(name = "6.12")]
    V6_12,
    /// The newest one for Debian 13
    Backports,
    /// The newest one of Debian's development branch
    Sid,
}

impl Series {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Backports => "backports",
            Self::Sid => "sid",
        }
    }

    /// The start of the version; empty if the newest kernel of the suites is meant, whatever its version is.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::V5_10 | Self::V6_1 | Self::V6_12 => self.name(),
            Self::Backports | Self::Sid => "",
        }
    }

    /// The suites with the kernels. Empty: the sources of this system, which is Debian 12 or newer.
    pub(super) fn suites(self) -> &'static [Suite] {
        match self {
            Self::V5_10 => &[
                Suite {
                    archive: "debian",
                    name: "bullseye",
                },
                Suite {
                    archive: "debian-security",
                    name: "bullseye-security",
                },
            ],
            Self::V6_1 | Self::V6_12 => &[],
            Self::Backports => &[Suite {
                archive: "debian",
                name: "trixie-backports",
            }],
            Self::Sid => &[Suite {
                archive: "debian",
                name: "sid",
            }],
        }
    }
}
