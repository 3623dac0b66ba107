//! Processes and threads, by number.

use std::{fs, path::Path};

use super::line;

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

/// The name of a thread, while it lives.
#[must_use]
pub fn comm(tid: u32) -> Option<String> {
    line(format!("/proc/{tid}/comm"))
}

/// Has a thread ended, so that nothing happens in it any more? Its parent may not have noticed yet.
#[must_use]
pub fn has_ended(tgid: u32, tid: u32) -> bool {
    // proc_pid_stat(5): the first field behind the name is the state; zombie, dead.
    let stat = stat_field(&format!("/proc/{tgid}/task/{tid}/stat"), 0);
    stat.is_none_or(|state| matches!(state.as_str(), "Z" | "X" | "x"))
}

/// When a process started, in clock ticks since the system booted; `None` if it has ended.
#[must_use]
pub fn start_time(tgid: u32) -> Option<u64> {
    stat_field(&format!("/proc/{tgid}/stat"), 19)?.parse().ok()
}

/// A field of a `stat` file, counted from behind the name, which may have any character.
fn stat_field(path: &str, index: usize) -> Option<String> {
    let stat = fs::read(path).ok()?;
    let behind_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[behind_name..]).ok()?;
    fields.split_ascii_whitespace().nth(index).map(str::to_owned)
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
}
