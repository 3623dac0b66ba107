//! Processes and threads, by number.

use std::{fs, path::Path};

use rustix::param::clock_ticks_per_second;

use super::clock;

/// Is there such a process?
#[must_use]
pub fn is_process(pid: u32) -> bool {
    // `/proc/NUMBER` is there for every thread; a process's own number is its thread group's.
    tgid_of(pid) == Some(pid)
}

/// Is there such a thread?
#[must_use]
pub fn is_thread(tid: u32) -> bool {
    tgid_of(tid).is_some()
}

/// The name of a process's thread, while it lives. If the thread started after `time_ns` (`CLOCK_MONOTONIC`), it is
/// another one than had the number then, and has no name here.
#[must_use]
pub fn comm_at(tgid: u32, tid: u32, time_ns: u64) -> Option<String> {
    let stat = fs::read(format!("/proc/{tgid}/task/{tid}/stat")).ok()?;
    let (comm, start_ns) = comm_and_start(&stat, clock_ticks_per_second())?;
    let suspended_ns = clock::boottime_ns().saturating_sub(clock::monotonic_ns());
    (start_ns <= time_ns.saturating_add(suspended_ns)).then_some(comm)
}

/// What `/proc/PID/stat` says: a thread's name, and when it started, by `CLOCK_BOOTTIME` and rounded down.
fn comm_and_start(stat: &[u8], ticks_per_second: u64) -> Option<(String, u64)> {
    // The name may hold anything, also brackets; what follows it cannot.
    let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = String::from_utf8_lossy(stat.get(begin..end)?).into_owned();
    // proc(5): `starttime` is field 22, and the name field 2.
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let ticks: u64 = rest.split_whitespace().nth(22 - 3)?.parse().ok()?;
    let start_ns = u128::from(ticks) * 1_000_000_000 / u128::from(ticks_per_second.max(1));
    Some((comm, u64::try_from(start_ns).ok()?))
}

/// The process that a thread belongs to.
fn tgid_of(tid: u32) -> Option<u32> {
    let status =
        fs::read_to_string(Path::new("/proc").join(tid.to_string()).join("status")).ok()?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    tgid.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_end_of_a_name() {
        let fields = ["S"].into_iter().chain(["1"; 18]).chain(["250", "9"]);
        let rest: Vec<_> = fields.collect();
        let stat = format!("7 (a) S 1 (b) {}", rest.join(" "));
        let read = comm_and_start(stat.as_bytes(), 100);
        assert_eq!(read, Some(("a) S 1 (b".to_owned(), 2_500_000_000)));
        for cut in 0..stat.len() - 5 {
            assert_eq!(comm_and_start(&stat.as_bytes()[..cut], 100), None, "{cut}");
        }
    }

    #[test]
    fn a_thread_that_started_later_is_another_one() {
        let (tgid, tid) = (std::process::id(), rustix::thread::gettid());
        let tid = tid.as_raw_nonzero().get().unsigned_abs();
        let now_ns = clock::monotonic_ns();
        let name = comm_at(tgid, tid, now_ns).expect("it runs this");
        assert_eq!(
            name,
            fs::read_to_string("/proc/thread-self/comm").expect("procfs").trim_end()
        );
        assert_eq!(comm_at(tgid, tid, 1), None);
        assert_eq!(comm_at(tgid + 1, tid, now_ns), None);
    }
}
