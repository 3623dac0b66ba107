//! What a guest made: the numbers everything else is compared with.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Isa, Kind, Mode, Plan, Times};

/// What all VMs of a [`Plan`] made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// The process (tgid) all of them live in.
    pub pid: u32,
    /// The mode they ran in.
    pub mode: Mode,
    /// What names [`VcpuMade::kvm_exits`] has; `None` on a host that virtualizes in software.
    pub isa: Option<Isa>,
    /// Each VM, by its number.
    pub vms: Vec<VmMade>,
}

/// What one VM made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmMade {
    /// Its number within the process, from 0.
    pub vm: u32,
    /// Each vCPU, by its index.
    pub vcpus: Vec<VcpuMade>,
}

/// What one vCPU made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VcpuMade {
    /// Its index within the VM, from 0.
    pub vcpu: u32,
    /// Its thread.
    pub tid: u32,
    /// What the guest executed, by kind; the `out`s that begin and end its program are among `io`.
    pub made: BTreeMap<Kind, u64>,
    /// Pages it touched by running at all (see [`Mode::boot_pages`]).
    pub boot_pages: u64,
    /// The VM exits that follow, by the name `kvm_exit` prints, for hardware with nested paging; `None` where the
    /// processor has none. Interrupts come on top: the host's, and the guest's own where it has any.
    pub kvm_exits: Option<BTreeMap<&'static str, u64>>,
    /// Returns of `KVM_RUN` with an exit for user space, counted as they came, by reason.
    pub userspace_exits: BTreeMap<&'static str, u64>,
    /// All returns of `KVM_RUN`: those above and the interrupted ones. As many `kvm_userspace_exit` events occurred.
    pub userspace_exits_total: u64,
    /// Returns of `KVM_RUN` because a signal interrupted it.
    pub eintr: u64,
    /// Where its time went.
    #[serde(flatten)]
    pub times: Times,
}

impl VcpuMade {
    /// What a vCPU that runs the plan to its end executes, with nothing counted yet.
    pub(super) fn by_construction(plan: &Plan, isa: Option<Isa>, vcpu: u32, tid: u32) -> Self {
        let mut made = BTreeMap::from([(Kind::Io, 2)]);
        for &kind in &plan.kinds {
            *made.entry(kind).or_default() += u64::from(plan.exits);
        }
        let boot_pages = plan.mode.boot_pages().into();
        let kvm_exits = isa.map(|isa| {
            let mut exits = BTreeMap::from([(Kind::PageFault.exit_reason(isa, 0), boot_pages)]);
            let steps = made
                .iter()
                .flat_map(|(kind, times)| kind.steps().iter().map(move |step| (step, times)));
            for (&kind, &times) in steps {
                let first = times.min(1);
                *exits.entry(kind.exit_reason(isa, 0)).or_default() += first;
                *exits.entry(kind.exit_reason(isa, 1)).or_default() += times - first;
            }
            exits.retain(|_, count| *count > 0);
            exits
        });
        Self {
            vcpu,
            tid,
            made,
            boot_pages,
            kvm_exits,
            userspace_exits: BTreeMap::new(),
            userspace_exits_total: 0,
            eintr: 0,
            times: Times::default(),
        }
    }

    /// Counts one return of `KVM_RUN`.
    pub(super) fn count(&mut self, reason: &'static str) {
        *self.userspace_exits.entry(reason).or_default() += 1;
        self.userspace_exits_total += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kinds: &[Kind], isa: Isa) -> VcpuMade {
        let plan = Plan {
            kinds: kinds.to_vec(),
            exits: 10,
            ..Plan::default()
        };
        VcpuMade::by_construction(&plan, Some(isa), 0, 1)
    }

    #[test]
    fn the_beginning_and_the_end_count_as_io_and_boot_pages_as_faults() {
        let made = made(&[Kind::Io, Kind::Mmio], Isa::Svm);
        assert_eq!(
            made.made,
            BTreeMap::from([(Kind::Io, 12), (Kind::Mmio, 10)])
        );
        assert_eq!(
            made.kvm_exits,
            Some(BTreeMap::from([("io", 12), ("npf", 14)]))
        );
    }

    #[test]
    fn intel_tells_the_first_access_to_an_unbacked_page_from_the_rest() {
        let exits = made(&[Kind::Mmio, Kind::PageFault], Isa::Vmx).kvm_exits;
        let expected = [
            ("EPT_MISCONFIG", 9),
            ("EPT_VIOLATION", 15),
            ("IO_INSTRUCTION", 2),
        ];
        assert_eq!(exits, Some(BTreeMap::from(expected)));
    }
}
