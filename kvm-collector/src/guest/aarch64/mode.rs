//! Processor modes of the guest.

use serde::Serialize;

/// Processor mode of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// EL1 without address translation.
    #[default]
    El1,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 1] = [Self::El1];

    /// Returns the name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::El1 => "el1",
        }
    }

    /// Returns the number of pages that a vCPU touches just by running: the code.
    #[must_use]
    pub const fn boot_pages(self) -> u32 {
        match self {
            Self::El1 => 1,
        }
    }
}
