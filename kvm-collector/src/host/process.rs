//! Processes and threads, by the kernel's ids.
//!
//! Where the ids in `/proc` are not the kernel's (see [`namespaces`]), nothing is looked up: it would be of another process.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::param::clock_ticks_per_second;

use super::{
    clock,
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

/// The name of a process's thread, while it lives. If the thread started after `time_ns` (`CLOCK_MONOTONIC`), it is
/// another one than had the number then, and has no name here.
#[must_use]
pub fn comm_at(tgid: u32, tid: u32, time_ns: u64) -> Option<String> {
    let stat = Stat::of_thread(tgid, tid)?;
    let start_ns = u128::from(stat.start_ticks()?) * 1_000_000_000
        / u128::from(clock_ticks_per_second().max(1));
    let suspended_ns = clock::boottime_ns().saturating_sub(clock::monotonic_ns());
    (start_ns <= time_ns.saturating_add(suspended_ns).into()).then_some(stat.comm)
}

/// Has a thread ended, so that nothing happens in it any more? Its parent may not have noticed yet. Where the ids in `/proc`
/// are not the kernel's, none is known to live.
#[must_use]
pub fn has_ended(tgid: u32, tid: u32) -> bool {
    let state = Stat::of_thread(tgid, tid).and_then(|stat| stat.field::<char>(3));
    // Zombie, dead.
    state.is_none_or(|state| matches!(state, 'Z' | 'X' | 'x'))
}

/// When a process started, in clock ticks since the system booted; `None` if it has ended.
#[must_use]
pub fn start_time(tgid: u32) -> Option<u64> {
    Stat::read(&directory(tgid)?)?.start_ticks()
}

/// What a task's `stat` file says (proc_pid_stat(5)).
#[derive(Debug)]
struct Stat {
    /// The thread's name.
    comm: String,
    /// The fields behind it.
    fields: String,
}

impl Stat {
    /// Of the task at this directory of `/proc`.
    fn read(task: &Path) -> Option<Self> {
        Self::parse(&fs::read(task.join("stat")).ok()?)
    }

    fn of_thread(tgid: u32, tid: u32) -> Option<Self> {
        Self::read(&directory(tgid)?.join("task").join(tid.to_string()))
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name may hold anything, also brackets; what follows it cannot.
        let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        Some(Self {
            comm: String::from_utf8_lossy(stat.get(begin..end)?).into_owned(),
            fields: String::from_utf8(stat.get(end + 1..)?.to_owned()).ok()?,
        })
    }

    /// A field by its number in the manual, from 3 on.
    fn field<T: FromStr>(&self, number: usize) -> Option<T> {
        let field = self.fields.split_ascii_whitespace().nth(number - 3)?;
        field.parse().ok()
    }

    /// When the task started, by `CLOCK_BOOTTIME` and rounded down.
    fn start_ticks(&self) -> Option<u64> {
        self.field(22)
    }
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
    Stat::read(task)?.field(9)
}

/// The parent of the process at this directory of `/proc`.
pub(super) fn parent(process: &Path) -> Option<u32> {
    Stat::read(process)?.field(4)
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
        let stat = Stat::read(&process).unwrap();
        assert_eq!((stat.comm.as_str(), stat.field(3)), ("a) R (b", Some('S')));
        assert_eq!(stat.start_ticks(), None, "there are fewer fields");
        assert!(Stat::parse(b"7 (a").is_none());
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
        assert_eq!(!has_ended(id, id), has_ids);
        assert_eq!(start_time(id).is_some_and(|ticks| ticks > 0), has_ids);
        assert!(!is_running(0) && has_ended(own, 0) && start_time(0).is_none());
        assert_eq!(kernel_id_of_own(0), None);
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let began = std::time::Instant::now();
        while !has_ended(child.id(), child.id()) {
            assert!(began.elapsed().as_secs() < 10);
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(start_time(child.id()), None);
    }

    #[test]
    fn a_thread_that_started_later_is_another_one() {
        if namespaces::kernel_ids().is_err() {
            return;
        }
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
