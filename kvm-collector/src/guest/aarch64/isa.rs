//! The virtualization extension.

use serde::Serialize;

/// Virtualization extension of the processor. It determines the names of exit reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// EL2 of arm64 processors.
    Arm64,
}

impl Isa {
    /// Returns the extension. Without it, there is no KVM on arm64.
    #[must_use]
    pub fn detect() -> Option<Self> {
        Some(Self::Arm64)
    }
}
