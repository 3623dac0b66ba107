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

/// The process that a thread belongs to.
fn tgid_of(tid: u32) -> Option<u32> {
    let status =
        fs::read_to_string(Path::new("/proc").join(tid.to_string()).join("status")).ok()?;
    let tgid = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    tgid.trim().parse().ok()
}
