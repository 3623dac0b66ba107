//! The kernel's clocks, as eBPF programs read them.
//!
//! In a time namespace, a process reads `CLOCK_MONOTONIC` with an offset that eBPF programs do not see.
//! The functions here subtract that offset.

use std::{path::Path, sync::OnceLock};

use rustix::time::{ClockId, clock_gettime};

use super::namespaces::{Namespace, PROC, inode};
use crate::bounds::read_system_file;

/// The offset of this process's time namespace is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the offset of this process's time namespace is unknown, so times cannot be compared with the kernel's: run kvm-collector in the host's time namespace, with /proc mounted"
)]
pub struct UnknownOffset;

/// `CLOCK_MONOTONIC` of the kernel in ns, as `bpf_ktime_get_ns` and ftrace's `mono` clock read it.
///
/// The offset of this process's time namespace is subtracted if it is known (see
/// [`namespace_offset_ns`]).
#[must_use]
pub fn monotonic_ns() -> u64 {
    let offset_ns = namespace_offset_ns().unwrap_or(0);
    read(ClockId::Monotonic).saturating_add_signed(offset_ns.saturating_neg())
}

/// `CLOCK_REALTIME` in ns since 1970 and [`monotonic_ns`], read at the same moment.
#[must_use]
pub fn real_and_monotonic_ns() -> (u64, u64) {
    // The thread may be preempted between two readings, so use the closest of a few pairs.
    const TRIES: usize = 5;
    let readings = (0..TRIES).map(|_| {
        let before_ns = monotonic_ns();
        let real_ns = read(ClockId::Realtime);
        let apart_ns = monotonic_ns().saturating_sub(before_ns);
        (apart_ns, (real_ns, before_ns + apart_ns / 2))
    });
    readings.min().map_or((0, 0), |(_, clocks)| clocks)
}

/// Difference between `CLOCK_REALTIME` and [`monotonic_ns`] in ns. It changes when the clock is set.
#[must_use]
pub fn real_offset_ns() -> u64 {
    let (real_ns, monotonic_ns) = real_and_monotonic_ns();
    real_ns.saturating_sub(monotonic_ns)
}

/// Offset of this process's `CLOCK_MONOTONIC` to the kernel's, in ns. The value is cached.
///
/// # Errors
/// If it is unknown.
pub fn namespace_offset_ns() -> Result<i64, UnknownOffset> {
    static OFFSET: OnceLock<Result<i64, UnknownOffset>> = OnceLock::new();
    *OFFSET.get_or_init(|| offset_in(Path::new(PROC)).ok_or(UnknownOffset))
}

/// Reads the offset of this process from `proc`; `None` if it is unknown.
fn offset_in(proc: &Path) -> Option<i64> {
    let own = proc.join("self");
    let Some(time) = inode(&own, Namespace::Time) else {
        // A kernel without time namespaces has no such link.
        return own.join("ns").is_dir().then_some(0);
    };
    if time == Namespace::Time.initial() {
        return Some(0);
    }
    // The file has the offsets of the namespace for new children, which may differ from this
    // process's own.
    if inode(&own, Namespace::TimeForChildren) != Some(time) {
        return None;
    }
    monotonic_offset(&read_system_file(own.join("timens_offsets")).ok()?)
}

/// Parses the line `monotonic SECONDS NANOSECONDS`. Only seconds can be negative: -0.5 s is
/// `-1 500000000`.
fn monotonic_offset(offsets: &str) -> Option<i64> {
    let mut fields = offsets
        .lines()
        .find_map(|line| line.strip_prefix("monotonic "))?
        .split_ascii_whitespace()
        .map(|field| field.parse::<i64>().ok());
    let (seconds, ns) = (fields.next()??, fields.next()??);
    seconds.checked_mul(1_000_000_000)?.checked_add(ns)
}

/// `CLOCK_BOOTTIME` in ns: like `CLOCK_MONOTONIC`, but it includes the time while the machine is
/// suspended.
#[must_use]
pub fn boottime_ns() -> u64 {
    read(ClockId::Boottime)
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::fake::FakeRoot;

    const OFFSETS: &str = "monotonic     -100000 500000000\nboottime          7         0\n";

    fn process(time: &str, for_children: &str) -> FakeRoot {
        let tree = FakeRoot::new();
        tree.file("self/timens_offsets", OFFSETS);
        tree.dir("self/ns");
        for (name, target) in [("time", time), ("time_for_children", for_children)] {
            symlink(target, tree.path().join("self/ns").join(name)).unwrap();
        }
        tree
    }

    #[test]
    fn the_offset_of_this_process_is_found() {
        let (initial, other, third) = ("time:[4026531834]", "time:[4026532179]", "time:[7]");
        for (time, for_children, offset_ns) in [
            (initial, initial, Some(0)),
            // The offsets in the file are those of the namespace for children.
            (initial, other, Some(0)),
            (other, other, Some(-99_999_500_000_000)),
            (other, third, None),
            (other, initial, None),
        ] {
            let tree = process(time, for_children);
            assert_eq!(
                offset_in(tree.path()),
                offset_ns,
                "{time}, children in {for_children}"
            );
        }
    }

    #[test]
    fn the_offset_is_zero_without_time_namespaces() {
        let tree = FakeRoot::new();
        assert_eq!(offset_in(tree.path()), None);
        tree.dir("self/ns");
        assert_eq!(offset_in(tree.path()), Some(0));
    }

    #[test]
    fn offsets_are_signed() {
        let ns = monotonic_offset;
        assert_eq!(ns("monotonic     -50         0\n"), Some(-50_000_000_000));
        assert_eq!(
            ns("monotonic  100000         1\n"),
            Some(100_000_000_000_001)
        );
        assert_eq!(ns("boottime  100000         1\n"), None);
        assert_eq!(ns("monotonic  9223372036854775807 0\n"), None);
        assert_eq!(ns("monotonic  5\n"), None);
    }

    #[test]
    fn both_clocks_are_read_at_the_same_moment() {
        let before_ns = monotonic_ns();
        let (real_ns, mono_ns) = real_and_monotonic_ns();
        assert!((before_ns..=monotonic_ns()).contains(&mono_ns));
        assert!(real_ns.abs_diff(mono_ns + real_offset_ns()) < 1_000_000_000);
    }
}
