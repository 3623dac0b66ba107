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
    let stat = Stat::of_thread(tgid, tid)?;
    let start_ns = u128::from(stat.start_ticks) * 1_000_000_000
        / u128::from(clock_ticks_per_second().max(1));
    let suspended_ns = clock::boottime_ns().saturating_sub(clock::monotonic_ns());
    (start_ns <= time_ns.saturating_add(suspended_ns).into()).then_some(stat.comm)
}

/// Has a thread ended, so that nothing happens in it any more? Its parent may not have noticed yet.
#[must_use]
pub fn has_ended(tgid: u32, tid: u32) -> bool {
    // Zombie, dead.
    Stat::of_thread(tgid, tid).is_none_or(|stat| matches!(stat.state, 'Z' | 'X' | 'x'))
}

/// When a process started, in clock ticks since the system booted; `None` if it has ended.
#[must_use]
pub fn start_time(tgid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{tgid}/stat")).ok()?;
    Stat::parse(&stat).map(|stat| stat.start_ticks)
}

/// What a `stat` file says of a thread (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// The thread's name.
    comm: String,
    /// `R` for running, and so on.
    state: char,
    /// When it started, by `CLOCK_BOOTTIME` and rounded down.
    start_ticks: u64,
}

impl Stat {
    fn of_thread(tgid: u32, tid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{tgid}/task/{tid}/stat")).ok()?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name may hold anything, also brackets; what follows it cannot.
        let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let comm = String::from_utf8_lossy(stat.get(begin..end)?).into_owned();
        // The state is field 3, the time of the start field 22.
        let mut fields = std::str::from_utf8(stat.get(end + 1..)?)
            .ok()?
            .split_ascii_whitespace();
        Some(Self {
            comm,
            state: fields.next()?.chars().next()?,
            start_ticks: fields.nth(22 - 4)?.parse().ok()?,
        })
    }
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
    fn this_process_has_started_and_not_ended() {
        let own = std::process::id();
        assert!(!has_ended(own, own));
        assert!(start_time(own).is_some_and(|ticks| ticks > 0));
        assert!(has_ended(own, 0) && start_time(0).is_none());
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let began = std::time::Instant::now();
        while !has_ended(child.id(), child.id()) {
            assert!(began.elapsed().as_secs() < 10);
            std::thread::yield_now();
        }
        assert!(start_time(child.id()).is_some(), "it is still there");
        child.wait().unwrap();
        assert_eq!(start_time(child.id()), None);
    }

    #[test]
    fn a_name_may_look_like_the_end_of_a_name() {
        let fields = ["S"].into_iter().chain(["1"; 18]).chain(["250", "9"]);
        let rest: Vec<_> = fields.collect();
        let text = format!("7 (a) S 1 (b) {}", rest.join(" "));
        let expected = Stat {
            comm: "a) S 1 (b".to_owned(),
            state: 'S',
            start_ticks: 250,
        };
        assert_eq!(Stat::parse(text.as_bytes()), Some(expected));
        for cut in 0..text.len() - 5 {
            assert_eq!(Stat::parse(&text.as_bytes()[..cut]), None, "{cut}");
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
