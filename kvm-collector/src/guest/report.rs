//! Report of a guest run: expected and counted exits per vCPU. Tests compare measurements with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Isa, Kind, Mode, Plan, VcpuTimeBreakdown};

/// Results of all VMs of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GuestReport {
    /// Process id (tgid) of all VMs.
    pub pid: u32,
    /// Processor mode of the guests.
    pub mode: Mode,
    /// Extension that defines the exit reasons in [`VcpuReport::kvm_exits`]; `None` if the processor has no
    /// virtualization extension.
    pub isa: Option<Isa>,
    /// VMs, by index.
    pub vms: Vec<VmReport>,
}

/// Results of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmReport {
    /// Index of the VM in the process, from 0.
    pub vm: u32,
    /// vCPUs, by index.
    pub vcpus: Vec<VcpuReport>,
}

/// Results of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VcpuReport {
    /// Index of the vCPU in the VM, from 0.
    pub vcpu: u32,
    /// Thread id.
    pub tid: u32,
    /// Operations that the guest executed, by kind. [`Kind::START_AND_END`] includes the exits at the start and the
    /// end of the program.
    #[serde(rename = "made")]
    pub executed: BTreeMap<Kind, u64>,
    /// Pages that the vCPU touches just by running (see [`Mode::boot_pages`]).
    pub boot_pages: u64,
    /// Expected VM exits with nested paging, by the name that `kvm_exit` prints; `None` if the processor
    /// has no virtualization extension. Exits due to interrupts are not included.
    pub kvm_exits: Option<BTreeMap<&'static str, u64>>,
    /// Counted returns of `KVM_RUN` with an exit reason, by reason.
    pub userspace_exits: BTreeMap<&'static str, u64>,
    /// All counted returns of `KVM_RUN`, including `eintr`. Equals the number of `kvm_userspace_exit`
    /// events.
    pub userspace_exits_total: u64,
    /// Counted returns of `KVM_RUN` because of a signal.
    pub eintr: u64,
    /// Time breakdown of the vCPU thread.
    #[serde(flatten)]
    pub time_breakdown: VcpuTimeBreakdown,
}

impl VcpuReport {
    /// Returns a report with the expected operations and exits of a complete run. All counts are 0.
    pub(super) fn expected(plan: &Plan, isa: Option<Isa>, vcpu: u32, tid: u32) -> Self {
        let mut executed = BTreeMap::from([(Kind::START_AND_END, 2)]);
        for &kind in &plan.kinds {
            *executed.entry(kind).or_default() += u64::from(plan.exits);
        }
        for (kind, count) in &mut executed {
            if Kind::ONCE.contains(kind) {
                *count = (*count).min(1);
            }
        }
        let boot_pages = plan.mode.boot_pages().into();
        let kvm_exits = isa.map(|isa| expected_exits(isa, boot_pages, &executed));
        Self {
            vcpu,
            tid,
            executed,
            boot_pages,
            kvm_exits,
            userspace_exits: BTreeMap::new(),
            userspace_exits_total: 0,
            eintr: 0,
            time_breakdown: VcpuTimeBreakdown::default(),
        }
    }

    /// Counts one return of `KVM_RUN` with this exit reason.
    pub(super) fn count_userspace_exit(&mut self, reason: &'static str) {
        *self.userspace_exits.entry(reason).or_default() += 1;
        self.userspace_exits_total += 1;
    }
}

/// Returns the expected VM exits of a vCPU, by reason.
pub(super) fn expected_exits(
    isa: Isa,
    boot_pages: u64,
    executed: &BTreeMap<Kind, u64>,
) -> BTreeMap<&'static str, u64> {
    let mut exits = BTreeMap::from([(Kind::boot_page_reason(isa), boot_pages)]);
    let steps = executed
        .iter()
        .flat_map(|(kind, count)| kind.steps().iter().map(move |step| (step, count)));
    for (&kind, &count) in steps {
        let first = count.min(1);
        *exits.entry(kind.exit_reason(isa, 0)).or_default() += first;
        *exits.entry(kind.exit_reason(isa, 1)).or_default() += count - first;
    }
    exits.retain(|_, count| *count > 0);
    exits
}
