//! The thread an event happened in.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;

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
    #[expect(clippy::cast_possible_truncation, reason = "two u32 in one u64")]
    pub(crate) fn of(both: u64) -> Self {
        Self {
            tgid: (both >> 32) as u32,
            tid: both as u32,
        }
    }

    /// Both in one number, as the kernel gives it.
    #[inline(always)]
    pub(crate) fn both(self) -> u64 {
        u64::from(self.tgid) << 32 | u64::from(self.tid)
    }
}
