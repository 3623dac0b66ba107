//! Plan of a guest run: operations, VMs, vCPUs and options.

use std::time::Duration;

use super::{Kind, Mode};

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
    /// Time after which the timer of the kinds with a timer expires.
    pub timer: Duration,
    /// Host CPUs to pin the vCPU threads to, in round-robin order. If empty, threads are not pinned.
    pub cpus: Vec<u32>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            kinds: Kind::DEFAULT.to_vec(),
            exits: 1000,
            mode: Mode::default(),
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
    /// Returns the CPU that a vCPU thread is pinned to; `None` if it is not pinned.
    pub(super) fn cpu_of(&self, vm: u32, vcpu: u32) -> Option<u32> {
        let number = u64::from(vm) * u64::from(self.vcpus) + u64::from(vcpu);
        let index = number.checked_rem(self.cpus.len() as u64)?;
        self.cpus.get(usize::try_from(index).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
