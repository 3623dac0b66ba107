//! Slow exits: single exits that took longer than a threshold.

use kvm_ebpf_common::{SlowExit, VCPU_UNKNOWN};
use serde::Serialize;

use super::{KeyNames, exit_record::Hex, idle::idle_ns};
use crate::model::{VmName, VmUuid, pid_of};

/// An exit that took longer than the requested threshold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowExitRow {
    /// Always `slow_exit`.
    pub view: &'static str,
    /// Start of the exit, in ns of the clock of the events.
    pub time_ns: u64,
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
    /// The exit reason; `None` if other events than exits are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Label of the counted event, if other events than exits are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Known name of the number in `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// Label of the event that caused the exit, if one was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Known name of the number in `cause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_name: Option<String>,
    /// Instruction pointer of the guest at the exit.
    pub guest_rip: Hex,
    /// Duration of the exit.
    pub duration_ns: u64,
    /// Part of the duration in the kernel.
    pub kernel_ns: u64,
    /// Part of the duration in the VMM's user space.
    pub vmm_ns: u64,
    /// Part of the duration during which the vCPU was halted.
    pub halted_ns: u64,
    /// Part of the duration during which the thread was runnable, but not running; `None` unless measured.
    pub preempted_ns: Option<u64>,
    /// The idle part of the duration: halted, or in the VMM because of a halt.
    pub idle_ns: u64,
}

impl SlowExitRow {
    /// Creates a row from a record of the eBPF programs, which measured preempted time.
    #[must_use]
    pub fn from_record(
        exit: &SlowExit,
        names: &KeyNames<'_>,
        vm_name: &dyn Fn(u32) -> VmName,
    ) -> Self {
        let parts = exit.span.breakdown;
        let elsewhere_ns = parts.vmm_ns + parts.halted_ns + parts.preempted_ns;
        let is_exit = names.counted_event.is_none();
        let VmName { name, uuid } = vm_name(exit.header.tgid);
        Self {
            view: "slow_exit",
            time_ns: exit.header.time_ns.saturating_sub(exit.span.total_ns),
            vm: name,
            vm_uuid: uuid,
            pid: pid_of(exit.header.tgid),
            tid: exit.header.tid,
            vcpu: (exit.vcpu != VCPU_UNKNOWN).then_some(exit.vcpu),
            reason: is_exit.then(|| names.reason(exit.span.key)),
            key: (!is_exit).then(|| names.label(exit.span.key)),
            key_name: names.known_name(exit.span.key),
            cause: (exit.cause.kind != 0).then(|| names.cause_label(exit.cause)),
            cause_name: names.known_cause_name(exit.cause),
            guest_rip: Hex(exit.guest_rip),
            duration_ns: exit.span.total_ns,
            kernel_ns: exit.span.total_ns.saturating_sub(elsewhere_ns),
            vmm_ns: parts.vmm_ns,
            halted_ns: parts.halted_ns,
            preempted_ns: Some(parts.preempted_ns),
            idle_ns: idle_ns(parts.halted_ns, parts.vmm_ns, || {
                names.is_halt(exit.span.key)
            }),
        }
    }

    /// Leaves out the preempted time, if it was not measured.
    #[must_use]
    pub fn with_preempted(self, is_measured: bool) -> Self {
        Self {
            preempted_ns: self.preempted_ns.filter(|_| is_measured),
            ..self
        }
    }

    /// Returns the exit reason, or the label of the counted event.
    #[must_use]
    pub fn label(&self) -> &str {
        let label = self.reason.as_ref().or(self.key.as_ref());
        label.map_or("", String::as_str)
    }
}
