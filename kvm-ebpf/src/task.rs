//! The thread an event happened in.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use kvm_ebpf_common::{tgid_of, tid_of};

/// A thread, in the kernel's words.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
}

impl Task {
    #[inline(always)]
    pub(crate) fn current() -> Self {
        Self::of(bpf_get_current_pid_tgid())
    }

    /// From both in one number.
    #[inline(always)]
    pub(crate) fn of(both: u64) -> Self {
        Self {
            tgid: tgid_of(both),
            tid: tid_of(both),
        }
    }

    /// Both in one number, as the kernel gives it.
    #[inline(always)]
    pub(crate) fn both(self) -> u64 {
        u64::from(self.tgid) << 32 | u64::from(self.tid)
    }
}
