//! Plan of a guest run: operations, VMs, vCPUs and options.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::{GuestError, Kind};

/// Number of VMs and vCPUs, and the operations that each vCPU executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Operations of each round, in order. A kind may occur several times.
    pub kinds: Vec<Kind>,
    /// Number of rounds per vCPU.
    pub exits: u32,
    /// Processor mode of the guests.
    pub mode: Mode,
    /// Number of virtual machines, all in this process.
    pub vms: u32,
    /// Number of vCPUs per VM. Each has its own thread.
    pub vcpus: u32,
    /// Time that user space sleeps in every exit that it handles, except the last one.
    pub sleep: Duration,
    /// Iterations of an empty loop at the start of each round. They take guest time without an exit.
    pub spin: u32,
    /// Time after which the APIC timer of [`Kind::Timer`] expires.
    pub timer: Duration,
    /// Host CPUs to pin the vCPU threads to, in round-robin order. If empty, threads are not pinned.
    pub cpus: Vec<u32>,
}

/// Time per tick of the APIC timer: KVM's APIC bus has 1 GHz, and the timer divides it by 2 after reset.
const TIMER_TICK_NS: u128 = 2;

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
    /// Returns whether the VMs need in-kernel interrupt controllers.
    pub(super) fn needs_irqchip(&self) -> bool {
        self.kinds.iter().any(|kind| kind.needs_irqchip())
    }

    /// Returns whether the guest needs interrupt or exception handlers.
    pub(super) fn needs_handlers(&self) -> bool {
        self.needs_irqchip()
            || self.kinds.contains(&Kind::Exception)
            || self.kinds.contains(&Kind::Ud)
    }

    /// Returns whether each vCPU shuts down after the end of its program.
    pub(super) fn ends_with_triple_fault(&self) -> bool {
        self.exits > 0 && self.kinds.contains(&Kind::TripleFault)
    }

    /// Returns whether a kind needs the page [`super::layout::Layout::written_page`].
    pub(super) fn needs_written_page(&self) -> bool {
        self.kinds.contains(&Kind::Dirty) || self.kinds.contains(&Kind::Pvclock)
    }

    /// Returns the initial count of the APIC timer. It is never 0, which would disable the timer.
    pub(super) fn timer_ticks(&self) -> Result<u32, GuestError> {
        u32::try_from(self.timer.as_nanos() / TIMER_TICK_NS)
            .ok()
            .filter(|_| self.timer >= Duration::from_micros(1))
            .ok_or(GuestError::TimerOutOfRange {
                requested: self.timer,
            })
    }

    /// Returns the CPU that a vCPU thread is pinned to; `None` if it is not pinned.
    pub(super) fn cpu_of(&self, vm: u32, vcpu: u32) -> Option<u32> {
        let number = u64::from(vm) * u64::from(self.vcpus) + u64::from(vcpu);
        let index = number.checked_rem(self.cpus.len() as u64)?;
        self.cpus.get(usize::try_from(index).ok()?).copied()
    }

    /// Returns an error if the combination of options is not possible.
    pub(super) fn validate(&self) -> Result<(), GuestError> {
        if self.needs_irqchip() && self.kinds.contains(&Kind::Hlt) {
            return Err(GuestError::HltNeverEnds);
        }
        if self.needs_handlers() && self.mode == Mode::Real && self.vcpus > 1 {
            return Err(GuestError::RealModeInterrupts);
        }
        self.timer_ticks()?;
        Ok(())
    }
}

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

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "real",
            Self::Long => "long",
        })
    }
}

/// Error for the name of a [`Mode`] that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown processor mode `{name}`: use real or long")]
pub struct UnknownMode {
    /// The unknown name.
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
    fn timer_ticks_are_2_ns() {
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
    fn threads_are_pinned_round_robin_across_vms() {
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
