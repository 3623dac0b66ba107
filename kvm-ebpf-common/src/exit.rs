//! VM exits: what is remembered of a thread between its exit and its next entry, and what is kept
//! per (thread, vCPU, isa, reason).

use crate::Histogram;

/// The vCPU's index is not known: the kernel's `kvm_exit` and `kvm_entry` have no `vcpu_id`
/// (arm64; x86 before 5.10).
pub const VCPU_UNKNOWN: u32 = u32::MAX;

/// What an exit is counted under.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitKey {
    /// The process: the VM.
    pub tgid: u32,
    /// The thread: the vCPU's thread.
    pub tid: u32,
    /// The vCPU's index within its VM, or [`VCPU_UNKNOWN`].
    pub vcpu: u32,
    /// `kvm_exit.isa` (1 = VMX, 2 = SVM); on arm64 `kvm_exit.ret`.
    pub isa: u32,
    /// `kvm_exit.exit_reason`, unmasked; on arm64 `kvm_exit.esr_ec`.
    pub reason: u32,
}

/// All exits of one [`ExitKey`] that were followed by an entry. A thread runs on one CPU at a time,
/// so these are updated without atomics.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStats {
    /// How many.
    pub count: u64,
    /// Sum of the times from `kvm_exit` to the thread's next `kvm_entry`.
    pub total_ns: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How many in each log2 bucket.
    pub histogram: Histogram,
}

/// A vCPU thread between two events.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadState {
    /// When it left the guest, `CLOCK_MONOTONIC`; 0 when it is in the guest or was never seen to
    /// leave it.
    pub exit_ns: u64,
    /// Of that exit; see [`ExitKey::isa`].
    pub isa: u32,
    /// Of that exit; see [`ExitKey::reason`].
    pub reason: u32,
    /// The vCPU it runs, or [`VCPU_UNKNOWN`].
    pub vcpu: u32,
    /// The process, to tell a reused tid.
    pub tgid: u32,
}

/// What one CPU could not count properly.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairingCounters {
    /// Exits followed by another exit of the thread, without an entry in between.
    pub unmatched: u64,
    /// Exits not counted because the map of (thread, reason) was full.
    pub rows_full: u64,
    /// Exits not counted because the map of threads was full.
    pub threads_full: u64,
    /// Exits left out because a vCPU was asked for and this thread's vCPU is not known.
    pub unattributed: u64,
}

const _: () = assert!(size_of::<ExitKey>() == 20);
const _: () = assert!(size_of::<ExitStats>() == 4 * 8 + size_of::<Histogram>());
const _: () = assert!(size_of::<ThreadState>() == 24);
const _: () = assert!(size_of::<PairingCounters>() == 32);

crate::pod!(ExitKey, ExitStats, ThreadState, PairingCounters);
