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
    /// How often each round first goes around an empty loop, which costs time in the guest and no exit.
    pub spin: u32,
    /// What [`Kind::Timer`] sets the APIC's timer to, and then waits for.
    pub timer: Duration,
    /// The CPUs that the vCPUs' threads are bound to, one each, in turn; where there are none, they run anywhere.
    pub cpus: Vec<u32>,
}

/// How often the APIC's timer ticks: its bus has 1 GHz, of which it counts every other tick.
const TICK_NS: u128 = 2;

impl Default for Plan {
    fn default() -> Self {
        Self {
            kinds: vec![Kind::Io, Kind::Cpuid],
            exits: 1000,
            mode: Mode::Long,
            vms: 1,
            vcpus: 1,
            sleep: Duration::ZERO,
            spin: 0,
            timer: Duration::from_micros(200),
            cpus: Vec::new(),
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

    /// What the APIC's timer is set to. At 0 it would be off, and what waits for it would wait for ever.
    pub(super) fn timer_ticks(&self) -> Result<u32, GuestError> {
        u32::try_from(self.timer.as_nanos() / TICK_NS)
            .ok()
            .filter(|_| self.timer >= Duration::from_micros(1))
            .ok_or(GuestError::TimerOutOfRange { asked: self.timer })
    }

    /// The CPU that a vCPU's thread is bound to, if it is bound at all.
    pub(super) fn cpu_of(&self, vm: u32, vcpu: u32) -> Option<u32> {
        let number = u64::from(vm) * u64::from(self.vcpus) + u64::from(vcpu);
        let index = number.checked_rem(self.cpus.len() as u64)?;
        self.cpus.get(usize::try_from(index).ok()?).copied()
    }

    /// What no guest can do.
    pub(super) fn check(&self) -> Result<(), GuestError> {
        if self.needs_irqchip() && self.kinds.contains(&Kind::Hlt) {
            return Err(GuestError::HltForEver);
        }
        if self.needs_handlers() && self.mode == Mode::Real && self.vcpus > 1 {
            return Err(GuestError::OutOfSegments);
        }
        self.timer_ticks()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_ticks_every_other_ns() {
        let ticks = |timer| {
            let plan = Plan {
                timer,
                ..Plan::default()
            };
            plan.timer_ticks().ok()
        };
        assert_eq!(ticks(Plan::default().timer), Some(100_000));
        assert_eq!(ticks(Duration::from_secs(8)), Some(4_000_000_000));
        assert_eq!(ticks(Duration::from_secs(9)), None);
        assert_eq!(ticks(Duration::from_nanos(999)), None);
        assert_eq!(ticks(Duration::MAX), None);
    }

    #[test]
    fn threads_take_the_cpus_in_turn_across_vms() {
        let mut plan = Plan {
            vms: 2,
            vcpus: 3,
            ..Plan::default()
        };
        assert_eq!(plan.cpu_of(1, 2), None);
        plan.cpus = vec![4, 7];
        let of_vm = |vm| [0, 1, 2].map(|vcpu| plan.cpu_of(vm, vcpu));
        assert_eq!(of_vm(0), [Some(4), Some(7), Some(4)]);
        assert_eq!(of_vm(1), [Some(7), Some(4), Some(7)]);
    }
}
