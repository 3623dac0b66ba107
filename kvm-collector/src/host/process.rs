//! Processes and threads by the ids that the kernel's events report.
//!
//! If the ids in `/proc` are not the kernel's (see [`namespaces`]), every lookup returns nothing,
//! because `/proc` would describe another process.

use std::path::{Path, PathBuf};

use rustix::param::clock_ticks_per_second;

use super::{
    clock,
    files::numbered_entries,
    namespaces::{self, PROC},
    task::{self, PF_EXITING, Stat},
};

/// Path of a process or thread in `/proc`, which does not exist once it has ended; `None` if the ids
/// in `/proc` are not the kernel's.
pub(super) fn proc_dir(id: u32) -> Option<PathBuf> {
    namespaces::check_kernel_ids().ok()?;
    Some(Path::new(PROC).join(id.to_string()))
}

/// Returns whether a process with this id exists.
#[must_use]
pub fn is_process(pid: u32) -> bool {
    // `/proc/TID` exists for threads as well. A process id is the id of a thread group.
    tgid_of(pid) == Some(pid)
}

/// Returns whether a thread with this id exists.
#[must_use]
pub fn is_thread(tid: u32) -> bool {
    tgid_of(tid).is_some()
}

/// Name of a live thread that already existed at `time_ns` (`CLOCK_MONOTONIC`).
///
/// `None` if the thread has ended, or if it started later and reuses the id of the thread that
/// existed then.
#[must_use]
pub fn comm_at(tgid: u32, tid: u32, time_ns: u64) -> Option<String> {
    let stat = thread_stat(tgid, tid)?;
    let start_ns = u128::from(stat.start_ticks()?) * 1_000_000_000
        / u128::from(clock_ticks_per_second().max(1));
    let suspended_ns = clock::boottime_ns().saturating_sub(clock::monotonic_ns());
    (start_ns <= time_ns.saturating_add(suspended_ns).into()).then_some(stat.comm)
}

/// Returns whether a thread has ended. A zombie has ended as well.
///
/// Also true if the ids in `/proc` are not the kernel's.
#[must_use]
pub fn has_ended(tgid: u32, tid: u32) -> bool {
    let state = thread_stat(tgid, tid).and_then(|stat| stat.field::<char>(3));
    // `Z` is a zombie; `X` and `x` are dead.
    state.is_none_or(|state| matches!(state, 'Z' | 'X' | 'x'))
}

/// Start time of a process in clock ticks since boot; `None` if it has ended.
#[must_use]
pub fn start_ticks(tgid: u32) -> Option<u64> {
    Stat::read(&proc_dir(tgid)?)?.start_ticks()
}

/// Returns whether a process's main thread has not started to exit: its `sched_process_exit` event is
/// still to come.
#[must_use]
pub fn is_running(tgid: u32) -> bool {
    let flags = proc_dir(tgid).and_then(|process| task::flags(&process));
    flags.is_some_and(|flags| flags & PF_EXITING == 0)
}

/// Returns whether a process is a kernel thread. `false` if it has ended.
#[must_use]
pub(super) fn is_kernel_thread(tgid: u32) -> bool {
    proc_dir(tgid).is_some_and(|process| task::is_kernel_thread(&process))
}

/// Returns whether all threads of a process have started to exit. Its command line is then empty, even
/// though its name can still be read.
///
/// Also true if the ids in `/proc` are not the kernel's.
#[must_use]
pub fn is_exiting(tgid: u32) -> bool {
    let Some(process) = proc_dir(tgid) else {
        return true;
    };
    let threads = numbered_entries(&process.join("task")).unwrap_or_default();
    !threads
        .iter()
        .any(|(_, thread)| task::flags(thread).is_some_and(|flags| flags & PF_EXITING == 0))
}

fn thread_stat(tgid: u32, tid: u32) -> Option<Stat> {
    Stat::read(&proc_dir(tgid)?.join("task").join(tid.to_string()))
}

/// Process id (thread group id) of a thread.
fn tgid_of(tid: u32) -> Option<u32> {
    task::status_field(&proc_dir(tid)?, "Tgid:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lookups_find_this_process_and_no_unused_id() {
        // In a pid namespace with the host's /proc, it differs from getpid().
        let own = fs::read_link("/proc/self").expect("procfs");
        let id = own.to_string_lossy().parse().expect("a number");
        let has_ids = namespaces::check_kernel_ids().is_ok();
        assert_eq!(is_running(id), has_ids);
        assert_eq!(!is_exiting(id), has_ids);
        assert_eq!(is_process(id), has_ids);
        assert_eq!(!has_ended(id, id), has_ids);
        assert_eq!(start_ticks(id).is_some_and(|ticks| ticks > 0), has_ids);
        assert!(!is_running(0) && has_ended(id, 0) && start_ticks(0).is_none());
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
        assert_eq!(start_ticks(child.id()), None);
    }

    #[test]
    fn a_thread_that_started_later_has_no_name() {
        if namespaces::check_kernel_ids().is_err() {
            return;
        }
        let (tgid, tid) = (std::process::id(), rustix::thread::gettid());
        let tid = tid.as_raw_nonzero().get().unsigned_abs();
        let now_ns = clock::monotonic_ns();
        let name = comm_at(tgid, tid, now_ns).expect("the current thread is alive");
        assert_eq!(
            name,
            fs::read_to_string("/proc/thread-self/comm")
                .expect("procfs")
                .trim_end()
        );
        assert_eq!(comm_at(tgid, tid, 1), None);
        // Another process has no such thread. The id after this one's may be that of the thread.
        assert_eq!(comm_at(1, tid, now_ns), None);
    }
}
