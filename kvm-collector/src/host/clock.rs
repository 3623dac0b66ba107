//! The clock that the kernel half uses too.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, in ns: what `bpf_ktime_get_ns` and ftrace's `mono` clock read.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// `CLOCK_REALTIME`, in ns since 1970.
#[must_use]
pub fn real_ns() -> u64 {
    read(ClockId::Realtime)
}

/// `CLOCK_BOOTTIME`, in ns: as `CLOCK_MONOTONIC`, but it goes on while the machine is suspended.
#[must_use]
pub fn boottime_ns() -> u64 {
    read(ClockId::Boottime)
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
