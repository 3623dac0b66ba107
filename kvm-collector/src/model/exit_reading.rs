//! One reading of all timed exits, as a source passes it on: rows by thread and key, and the rest.

use kvm_ebpf_common::Key;

use super::{Causes, ExitTotals, Loss, MinMax, VcpuId};

/// The exits of one thread with one key.
#[derive(Debug, Clone, Copy)]
pub struct ThreadExits<'a> {
    /// The vCPU that the thread runs.
    pub vcpu_id: VcpuId,
    /// The exit reason, or the code of the counted event.
    pub key: Key,
    /// Count and times since the start of the measurement.
    pub totals: &'a ExitTotals,
    /// The shortest and the longest exit since the previous reading.
    pub recent: MinMax,
    /// The most frequent causes since the start of the measurement; `None` unless causes are
    /// requested.
    pub causes: Option<&'a Causes>,
}

/// Times of a vCPU thread that are not part of a completed exit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VcpuTimes {
    /// The vCPU that the thread runs.
    pub vcpu_id: VcpuId,
    /// Time in the guest, up to the reading.
    pub guest_ns: u64,
    /// Duration so far of the exit in progress; 0 if there is none.
    pub open_ns: u64,
    /// The thread has ended.
    pub has_ended: bool,
}

/// What a reading contains besides its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitReading {
    /// Time of the reading, in ns since the start of the measurement.
    pub time_ns: u64,
    /// Times of each vCPU thread.
    pub vcpus: Vec<VcpuTimes>,
    /// Losses since the start of the measurement.
    pub loss: Loss,
}
