//! The process id and thread id of a thread.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use kvm_ebpf_common::{tgid_of, tid_of};

/// A thread, by its ids in the initial PID namespace.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
}

impl Task {
    /// Returns the thread in which the program runs.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        Self::from_pid_tgid(bpf_get_current_pid_tgid())
    }

    /// Splits `tgid << 32 | tid`.
    #[inline(always)]
    pub(crate) fn from_pid_tgid(pid_tgid: u64) -> Self {
        Self {
            tgid: tgid_of(pid_tgid),
            tid: tid_of(pid_tgid),
        }
    }

    /// Returns `tgid << 32 | tid`.
    #[inline(always)]
    pub(crate) fn pid_tgid(self) -> u64 {
        u64::from(self.tgid) << 32 | u64::from(self.tid)
    }
}
