//! Processes and threads, by the kernel's ids.
//!
//! Where the ids in `/proc` are not the kernel's (see [`namespaces`]), nothing is looked up: it would be of another process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    line,
    namespaces::{self, PROC},
    numbered,
};

/// `PF_EXITING` (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;
/// `PF_KTHREAD`.
pub(super) const PF_KTHREAD: u32 = 0x20_0000;

/// The directory of a process or thread; it is missing once the process has ended. `None` where the ids in `/proc` are not
/// the kernel's.
pub(super) fn directory(id: u32) -> Option<PathBuf> {
    namespaces::kernel_ids().ok()?;
    Some(Path::new(PROC).join(id.to_string()))
}

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
    line(directory(tid)?.join("comm"))
}

/// Has the process's main thread not begun to end? If so, `sched_process_exit` is still to come.
#[must_use]
pub fn is_running(tgid: u32) -> bool {
    let flags = directory(tgid).and_then(|process| flags(&process));
    flags.is_some_and(|flags| flags & PF_EXITING == 0)
}

/// The kernel's id of a thread of this process, given the id that the thread itself reads (`gettid`): in a pid namespace
/// they differ. `None` if it cannot be known.
#[must_use]
pub fn kernel_id_of_own(tid: u32) -> Option<u32> {
    namespaces::kernel_ids().ok()?;
    let threads = numbered(&Path::new(PROC).join("self/task")).ok()?;
    threads
        .into_iter()
        .find(|(_, thread)| ids(thread).last() == Some(&tid))
        .map(|(id, _)| id)
}

/// The process that a thread belongs to.
fn tgid_of(tid: u32) -> Option<u32> {
    status(&directory(tid)?, "Tgid:")?.parse().ok()
}

/// The ids of the task at this directory of `/proc`: in the pid namespace of that `/proc`, in each one below it, and last in
/// the task's own.
pub(super) fn ids(task: &Path) -> Vec<u32> {
    let ids = status(task, "NSpid:").unwrap_or_default();
    ids.split_ascii_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

/// A line of the task's `status`.
fn status(task: &Path, name: &str) -> Option<String> {
    let status = fs::read_to_string(task.join("status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// The flags (`PF_...`) of the task at this directory of `/proc`.
pub(super) fn flags(task: &Path) -> Option<u32> {
    stat_field(&fs::read_to_string(task.join("stat")).ok()?, 6)
}

/// The parent of the process at this directory of `/proc`.
pub(super) fn parent(process: &Path) -> Option<u32> {
    stat_field(&fs::read_to_string(process.join("stat")).ok()?, 1)
}

/// A number in `/proc/PID/stat` (proc_pid_stat(5)): so many fields behind the one that follows the name, which may have any
/// character.
fn stat_field(stat: &str, nth: usize) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_ascii_whitespace().nth(nth)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn fields_are_found_behind_any_name() {
        let tree = Tree::new();
        tree.file("7/stat", "7 (a) R (b) S 1 7 7 0 -1 4194560 100 0");
        let process = tree.path().join("7");
        assert_eq!(flags(&process), Some(4_194_560));
        assert_eq!(parent(&process), Some(1));
        assert_eq!(stat_field("7 (a", 1), None);
        assert_eq!(stat_field("7 (a) S", 1), None);
    }

    #[test]
    fn this_process_is_running_and_none_is_not() {
        let own = std::process::id();
        let has_ids = namespaces::kernel_ids().is_ok();
        let id = kernel_id_of_own(own);
        assert_eq!(id.is_some(), has_ids);
        let id = id.unwrap_or(own);
        assert_eq!(is_running(id), has_ids);
        assert_eq!(is_process(id), has_ids);
        assert!(!is_running(0));
        assert_eq!(kernel_id_of_own(0), None);
    }
}
