//! Single exits with everything that is known about them.

use std::fmt;

use kvm_ebpf_common::VCPU_UNKNOWN;
use serde::{Serialize, Serializer};

use super::{exit_names::ExitNames, idle::idle_ns};
use crate::{
    model::{Exit, ExitEnd, Segment, VmName, VmUuid, pid_of},
    timing::TimingRequest,
    view::{ReportOrigin, UtcTime},
};

/// An exit: an object of `trace --per-exit --json`, and a row of the tables of `convert`.
///
/// The order of the fields is that of the columns. Times without a value are unknown.
#[derive(Debug, Serialize)]
pub struct ExitRecord<'a> {
    /// Start of the exit, in ns of the clock of the events.
    pub time_ns: u64,
    /// The same as date, if it is known.
    pub time: Option<UtcTime>,
    /// Name of the host.
    pub host: Option<&'a str>,
    /// Id of the host's boot.
    pub boot_id: Option<&'a str>,
    /// The last CPU on which the exit was seen.
    pub cpu: u32,
    /// Process id of the VMM.
    pub pid: u32,
    /// Thread id of the vCPU.
    pub tid: u32,
    /// Name of the thread.
    pub comm: &'a str,
    /// Name of the VM.
    pub vm: &'a str,
    /// UUID of the VM, if known.
    pub vm_uuid: Option<VmUuid>,
    /// Index of the vCPU, if known.
    pub vcpu: Option<u32>,
    /// Name of the exit reason.
    pub reason: &'a str,
    /// Number of the exit reason.
    pub reason_code: u64,
    /// The processor extension that defines the reason.
    pub isa: &'a str,
    /// From the exit to the next entry.
    pub duration_ns: Option<u64>,
    /// Part of the duration in the kernel.
    pub kernel_ns: Option<u64>,
    /// Part of the duration in the VMM's user space.
    pub vmm_ns: Option<u64>,
    /// Part of the duration during which the vCPU was halted.
    pub halted_ns: Option<u64>,
    /// Part of the duration during which the thread was runnable, but not running.
    pub preempted_ns: Option<u64>,
    /// The idle part of the duration: halted, or in the VMM because of a halt.
    pub idle_ns: Option<u64>,
    /// Kind of the cause.
    pub cause_kind: Option<&'a str>,
    /// Number of the cause.
    pub cause_code: Option<u64>,
    /// Label of the cause.
    pub cause: Option<&'a str>,
    /// Known name of the cause's number.
    pub cause_name: Option<&'a str>,
    /// Instruction pointer of the guest.
    pub guest_rip: Hex,
    /// Whether the exit was in progress at the end of its thread or of the stream.
    #[serde(skip)]
    pub is_open: bool,
    /// Whether the exit has no time for another reason.
    #[serde(skip)]
    pub is_untimed: bool,
}

/// A number that is written in hexadecimal: `0x...`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Makes the record of each exit.
#[derive(Debug)]
pub struct ExitRecords {
    names: ExitNames,
    origin: ReportOrigin,
}

impl ExitRecords {
    /// Creates the records of exits that are timed by a request, on the host and with the clock of `origin`.
    #[must_use]
    pub fn new(timing: TimingRequest, origin: ReportOrigin) -> Self {
        let names = ExitNames::new(timing);
        Self { names, origin }
    }

    /// Returns the host and the clock of the exits.
    #[must_use]
    pub fn origin(&self) -> &ReportOrigin {
        &self.origin
    }

    /// Returns the names of exits.
    pub fn names(&mut self) -> &mut ExitNames {
        &mut self.names
    }

    /// Sets the difference between the date and the clock of the events, in ns: the date may be set while events are measured.
    pub fn set_wall_offset(&mut self, offset_ns: u64) {
        self.origin.wall_offset_ns = Some(offset_ns);
    }

    /// Makes the record of an exit. `comm` is the name of its thread, `vm` its VM.
    pub fn record<'a>(
        &'a mut self,
        segment: &Segment,
        exit: &Exit,
        comm: &'a str,
        vm: &'a VmName,
    ) -> ExitRecord<'a> {
        let timing = self.names.timing();
        let has_vmm = timing.userspace_exit.is_some();
        let has_halted = timing.wakeup.is_some();
        let has_preempted = timing.switch.is_some();
        let (reason, cause) = self.names.of_exit(exit);
        let is_complete = exit.end == ExitEnd::Entry;
        let known = |is_known: bool, ns: u64| Some(ns).filter(|_| is_complete && is_known);
        let duration_ns = segment.to_ns - segment.from_ns;
        let parts = &exit.parts;
        let non_kernel_ns = parts.vmm_ns + parts.halted_ns + parts.preempted_ns;
        let vcpu_id = &segment.vcpu_id;
        ExitRecord {
            time_ns: segment.from_ns,
            time: self.origin.utc_time(segment.from_ns),
            host: self.origin.header.host.as_deref(),
            boot_id: self.origin.header.boot_id.as_deref(),
            cpu: segment.cpu,
            pid: pid_of(vcpu_id.tgid),
            tid: vcpu_id.tid,
            comm,
            vm: &vm.name,
            vm_uuid: vm.uuid,
            vcpu: Some(vcpu_id.vcpu).filter(|it| *it != VCPU_UNKNOWN),
            reason: &reason.reason,
            reason_code: exit.key.code,
            isa: reason.isa,
            duration_ns: known(true, duration_ns),
            // The kernel's part is what remains of the others.
            kernel_ns: known(
                has_vmm && has_halted,
                duration_ns.saturating_sub(non_kernel_ns),
            ),
            vmm_ns: known(has_vmm, parts.vmm_ns),
            halted_ns: known(has_halted, parts.halted_ns),
            preempted_ns: known(has_preempted, parts.preempted_ns),
            idle_ns: known(
                true,
                idle_ns(parts.halted_ns, parts.vmm_ns, || reason.is_halt),
            ),
            cause_kind: cause.map(|it| &*it.kind),
            cause_code: cause.map(|it| it.code),
            cause: cause.map(|it| &*it.label),
            cause_name: cause.and_then(|it| it.name.as_deref()),
            guest_rip: Hex(exit.guest_rip),
            is_open: exit.end == ExitEnd::InProgress,
            is_untimed: exit.end == ExitEnd::UnknownEnd,
        }
    }
}
