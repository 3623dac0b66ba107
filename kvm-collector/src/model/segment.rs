//! Where a vCPU's thread was, from when to when.

use kvm_ebpf_common::{Key, Parts};

use super::VcpuId;

/// A time that a vCPU's thread spent in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The vCPU it belongs to.
    pub vcpu_id: VcpuId,
    /// The CPU it ended on.
    pub cpu: u32,
    /// Since when.
    pub from_ns: u64,
    /// Until when; of an exit without a time, until when it is known to have been out.
    pub to_ns: u64,
    /// Where it was.
    pub state: VcpuState,
}

/// Where a vCPU's thread can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VcpuState {
    /// In the guest.
    Guest,
    /// Out of it.
    Exit(Exit),
    /// In a part of the exit that ends next.
    Part(Part),
}

/// An exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub key: Key,
    /// Where the guest was.
    pub guest_rip: u64,
    /// How its time divides; zero where it has none.
    pub parts: Parts,
    /// How it ended.
    pub end: ExitEnd,
}

/// How an exit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitEnd {
    /// With an entry.
    Entry,
    /// Not at all, as far as is known.
    Open,
    /// Its entry was not seen.
    Unseen,
}

/// A part of an exit that is not its kernel part. A preemption may lie within one of the others, whose
/// time it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// In the VMM's user space.
    Vmm,
    /// Halted.
    Halted,
    /// Ready, and not running.
    Preempted,
}
