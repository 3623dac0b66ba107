//! What a guest is asked to do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::{GuestError, Kind};

/// What a guest is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What each round does, in this order; a kind named twice is done twice.
    pub kinds: Vec<Kind>,
    /// Rounds each vCPU makes: the number of exits of each kind named once.
    pub exits: u32,
    /// The processor mode the guest runs in.
    pub mode: Mode,
    /// Virtual machines, all in this process.
    pub vms: u32,
    /// vCPUs of each, a thread each.
    pub vcpus: u32,
    /// How long user space sleeps in every exit it handles, the last one excepted.
    pub sleep: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            kinds: vec![Kind::Io, Kind::Cpuid],
            exits: 1000,
            mode: Mode::Long,
            vms: 1,
            vcpus: 1,
            sleep: Duration::ZERO,
        }
    }
}

impl Plan {
    /// Whether the VM has interrupt controllers in the kernel.
    pub(super) fn needs_irqchip(&self) -> bool {
        self.kinds.iter().any(|kind| kind.needs_irqchip())
    }

    /// Whether the guest takes interrupts or exceptions.
    pub(super) fn needs_handlers(&self) -> bool {
        self.needs_irqchip() || self.kinds.contains(&Kind::Exception)
    }

    /// Whether there is a use for the page of [`super::layout::Layout::written`].
    pub(super) fn needs_written(&self) -> bool {
        self.kinds.contains(&Kind::Dirty) || self.kinds.contains(&Kind::Pvclock)
    }

    /// What no guest can do.
    pub(super) fn check(&self) -> Result<(), GuestError> {
        if self.needs_irqchip() && self.kinds.contains(&Kind::Hlt) {
            return Err(GuestError::HltForEver);
        }
        if self.needs_handlers() && self.mode == Mode::Real && self.vcpus > 1 {
            return Err(GuestError::OutOfSegments);
        }
        Ok(())
    }
}

/// The processor mode a guest runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// 16-bit real mode, with data segments that reach all of memory.
    Real,
    /// 64-bit long mode with the guest's own page tables.
    #[default]
    Long,
}

impl Mode {
    /// Pages a vCPU touches just by running: its code, and in long mode one page table of each of three levels.
    #[must_use]
    pub const fn boot_pages(self) -> u32 {
        match self {
            Self::Real => 1,
            Self::Long => 4,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "real",
            Self::Long => "long",
        })
    }
}

/// A mode was asked for by a name that none has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no processor mode is called `{name}`: there are real and long")]
pub struct UnknownMode {
    /// What was asked for.
    pub name: String,
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "real" => Ok(Self::Real),
            "long" => Ok(Self::Long),
            _ => Err(UnknownMode {
                name: name.to_owned(),
            }),
        }
    }
}
