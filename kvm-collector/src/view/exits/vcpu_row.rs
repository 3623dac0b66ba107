//! Rows that show where the time of each vCPU went.

use kvm_ebpf_common::VCPU_UNKNOWN;
use serde::Serialize;

use super::{
    groups::{ExitGroups, GroupKey},
    labels::RowLabels,
};
use crate::{
    model::{VmName, VmUuid},
    view::RecordedHost,
};

/// Number of exits of a vCPU, and where its time went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VcpuRow {
    /// The host, if there are several or rows are grouped by host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<RecordedHost>,
    /// How long the host was recorded, in ns, if there are several hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// Name of the VM.
    pub vm: String,
    /// UUID of the VM, if known.
    pub vm_uuid: Option<VmUuid>,
    /// PID of the VMM.
    pub pid: u32,
    /// Index of the vCPU, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// TID of the vCPU thread, if the index is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Number of exits.
    pub count: u64,
    /// Time in the guest.
    pub guest_ns: u64,
    /// Time in the kernel, on behalf of the guest.
    pub kernel_ns: u64,
    /// Time in the VMM's user space.
    pub vmm_ns: u64,
    /// Time halted.
    pub halted_ns: u64,
    /// Time during which the thread was runnable, but not running; `None` unless measured.
    pub preempted_ns: Option<u64>,
    /// Duration so far of the exit in progress at the end of the interval.
    pub open_ns: u64,
}

/// Returns a row per vCPU. `preempt_watched` tells whether preempted time was measured.
pub(super) fn vcpu_rows(
    groups: &ExitGroups,
    labels: RowLabels<'_>,
    preempt_watched: bool,
) -> Vec<VcpuRow> {
    groups
        .vcpus()
        .map(|(vcpu_id, times)| {
            let VmName { name, uuid } = labels.vm_name(vcpu_id.tgid);
            let host = labels.host_of_vm(vcpu_id.tgid);
            let of_vm = GroupKey {
                tgid: Some(vcpu_id.tgid),
                ..GroupKey::default()
            };
            let has_preempted = labels.has_preempted(&of_vm, preempt_watched);
            VcpuRow {
                elapsed_ns: host.as_ref().and_then(|_| labels.elapsed_ns(&of_vm)),
                host,
                vm: name,
                vm_uuid: uuid,
                pid: labels.pid(vcpu_id.tgid),
                vcpu: (vcpu_id.vcpu != VCPU_UNKNOWN).then_some(vcpu_id.vcpu),
                tid: (vcpu_id.vcpu == VCPU_UNKNOWN).then_some(vcpu_id.tid),
                count: times.exits,
                guest_ns: times.guest_ns,
                kernel_ns: times.kernel_ns,
                vmm_ns: times.vmm_ns,
                halted_ns: times.halted_ns,
                preempted_ns: has_preempted.then_some(times.preempted_ns),
                open_ns: times.open_ns,
            }
        })
        .collect()
}
