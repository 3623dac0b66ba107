//! Processor modes of the guest.

use serde::Serialize;

/// Processor mode of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// 16-bit real mode with 4 GiB data segments.
    Real,
    /// 64-bit long mode with page tables.
    #[default]
    Long,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 2] = [Self::Real, Self::Long];

    /// Returns the name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Long => "long",
        }
    }

    /// Returns the number of pages that a vCPU touches just by running: the code, and in long mode three
    /// page tables.
    #[must_use]
    pub const fn boot_pages(self) -> u32 {
        match self {
            Self::Real => 1,
            Self::Long => 4,
        }
    }
}
