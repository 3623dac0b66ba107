//! Slow exits: single exits that took longer than a threshold.

use kvm_ebpf_common::{SlowExit, VCPU_UNKNOWN};
use serde::Serialize;

use super::{KeyNames, exit_record::Address, idle::idle_ns};
use crate::model::{VmName, VmUuid, pid_of};

/// An exit that took longer than the requested threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowExitRow {
    /// Always `slow_exit`.
    pub view: &'static str,
    /// End of the exit, in ns of `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// Name of the VM.
    pub vm: String,
    /// UUID of the VM, if known.
    pub vm_uuid: Option<VmUuid>,
    /// PID of the VMM.
    pub pid: u32,
    /// TID of the vCPU thread.
    pub tid: u32,
    /// Index of the vCPU, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// The exit reason, or the label of the counted event.
    pub what: String,
    /// Known name of the number in `what`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_name: Option<String>,
    /// Label of the event that caused the exit, if one was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Known name of the number in `cause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_name: Option<String>,
    /// Instruction pointer of the guest at the exit.
    pub guest_rip: Address,
    /// Duration of the exit.
    pub time_ns: u64,
    /// Part of `time_ns` in the kernel.
    pub kernel_ns: u64,
    /// Part of `time_ns` in the VMM's user space.
    pub vmm_ns: u64,
    /// Part of `time_ns` during which the vCPU was halted.
    pub halted_ns: u64,
    /// Part of `time_ns` during which the thread was runnable, but not running; 0 unless measured.
    pub preempted_ns: u64,
    /// The idle part of `time_ns`: halted, or in the VMM because of a halt.
    pub idle_ns: u64,
}

impl SlowExitRow {
    /// Creates a row from a record of the eBPF programs.
    #[must_use]
    pub fn from_record(
        exit: &SlowExit,
        names: &KeyNames<'_>,
        vm_name: &dyn Fn(u32) -> VmName,
    ) -> Self {
        let parts = exit.span.breakdown;
        let elsewhere_ns = parts.vmm_ns + parts.halted_ns + parts.preempted_ns;
        let VmName { name, uuid } = vm_name(exit.header.tgid);
        Self {
            view: "slow_exit",
            end_ns: exit.header.time_ns,
            vm: name,
            vm_uuid: uuid,
            pid: pid_of(exit.header.tgid),
            tid: exit.header.tid,
            vcpu: (exit.vcpu != VCPU_UNKNOWN).then_some(exit.vcpu),
            what: names.label(exit.span.key),
            what_name: names.known_name(exit.span.key),
            cause: (exit.cause.kind != 0).then(|| names.cause_label(exit.cause)),
            cause_name: names.known_cause_name(exit.cause),
            guest_rip: Address(exit.guest_rip),
            time_ns: exit.span.total_ns,
            kernel_ns: exit.span.total_ns.saturating_sub(elsewhere_ns),
            vmm_ns: parts.vmm_ns,
            halted_ns: parts.halted_ns,
            preempted_ns: parts.preempted_ns,
            idle_ns: idle_ns(parts.halted_ns, parts.vmm_ns, || {
                names.is_halt(exit.span.key)
            }),
        }
    }
}
