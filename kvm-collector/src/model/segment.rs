//! Segments: time intervals during which a vCPU thread was in one state.

use kvm_ebpf_common::{Key, SpanBreakdown};

use super::VcpuId;

/// A half-open time interval during which a vCPU thread was in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The vCPU that the thread runs.
    pub vcpu_id: VcpuId,
    /// The CPU on which the segment ended.
    pub cpu: u32,
    /// Start, in ns of the stream's clock.
    pub from_ns: u64,
    /// End, in ns. For an exit without a duration, the last time at which the thread is known to
    /// have been outside the guest.
    pub to_ns: u64,
    /// The state of the thread.
    pub state: VcpuState,
}

/// The state of a vCPU thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VcpuState {
    /// The vCPU runs the guest.
    Guest,
    /// The vCPU is outside the guest: a whole exit.
    Exit(Exit),
    /// A part of the thread's exit that ends next.
    Part(ExitPart),
}

/// A VM exit, without its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit reason, or the code of the counted event.
    pub key: Key,
    /// The guest's instruction pointer at the exit.
    pub guest_rip: u64,
    /// The cause of the exit: the last event of a kind that tells a cause. [`Key::kind`] - 1 is the
    /// index of the kind in the request. `None` if there was no such event.
    pub cause: Option<Key>,
    /// The breakdown of its duration; zero if it has no duration.
    pub parts: SpanBreakdown,
    /// How the exit ended.
    pub end: ExitEnd,
}

/// How an exit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitEnd {
    /// The vCPU entered the guest again.
    Entry,
    /// The exit was in progress when the thread or the stream ended.
    InProgress,
    /// The end is unknown, because the entry was not seen.
    UnknownEnd,
}

/// A part of an exit. The rest of an exit is time in the kernel.
///
/// A preemption may lie within one of the other parts; its time does not count for that part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitPart {
    /// The thread runs in the VMM's user space.
    Vmm,
    /// The vCPU is halted, because the guest is idle.
    Halted,
    /// The thread is preempted: runnable, but not running.
    Preempted,
}
