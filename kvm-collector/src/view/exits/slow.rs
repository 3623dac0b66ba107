//! Exits that took long, one by one.

use kvm_ebpf_common::{SlowExit, VCPU_UNKNOWN};
use serde::Serialize;

use super::KeyNames;

/// An exit that took longer than was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlowRow {
    /// Always `slow_exit`.
    pub view: &'static str,
    /// When it was over, `CLOCK_MONOTONIC`.
    pub end_ns: u64,
    /// The VM's name.
    pub vm: String,
    /// The VMM's process.
    pub pid: u32,
    /// The vCPU's thread.
    pub tid: u32,
    /// The vCPU's index, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpu: Option<u32>,
    /// Why the guest was left, or what else is counted.
    pub what: String,
    /// What the number in it stands for, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_name: Option<String>,
    /// What it was about, where an event said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What the number in it stands for, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_name: Option<String>,
    /// Where the guest was.
    pub guest_rip: u64,
    /// How long it took.
    pub time_ns: u64,
    /// Of it, in the kernel.
    pub kernel_ns: u64,
    /// Of it, in the VMM's user space.
    pub vmm_ns: u64,
    /// Of it, halted.
    pub halted_ns: u64,
    /// Of it, ready but not running; 0 unless that was watched.
    pub preempted_ns: u64,
}

impl SlowRow {
    /// What the kernel half reported.
    #[must_use]
    pub fn of(exit: &SlowExit, names: &KeyNames<'_>, vm_name: &dyn Fn(u32) -> String) -> Self {
        let parts = exit.span.parts;
        let elsewhere_ns = parts.vmm_ns + parts.halted_ns + parts.preempted_ns;
        Self {
            view: "slow_exit",
            end_ns: exit.header.time_ns,
            vm: vm_name(exit.header.tgid),
            pid: exit.header.tgid,
            tid: exit.header.tid,
            vcpu: (exit.vcpu != VCPU_UNKNOWN).then_some(exit.vcpu),
            what: names.name(exit.span.key),
            what_name: names.known(exit.span.key),
            cause: (exit.cause.kind != 0).then(|| names.cause(exit.cause)),
            cause_name: names.known_cause(exit.cause),
            guest_rip: exit.guest_rip,
            time_ns: exit.span.total_ns,
            kernel_ns: exit.span.total_ns.saturating_sub(elsewhere_ns),
            vmm_ns: parts.vmm_ns,
            halted_ns: parts.halted_ns,
            preempted_ns: parts.preempted_ns,
        }
    }
}
