//! A task (process or thread) by its directory in a `/proc`: `/proc/PID` or `/proc/PID/task/TID`.

use std::{path::Path, str::FromStr};

use crate::bounds::{read_bounded, read_system_file};

/// Maximum size of a task's `stat` file: 50 numbers and a name.
const MAX_STAT_BYTES: u64 = 64 << 10;

/// `PF_EXITING`: the task is ending (include/linux/sched.h).
pub(super) const PF_EXITING: u32 = 0x4;
/// `PF_KTHREAD`: the task is a kernel thread (include/linux/sched.h).
pub(super) const PF_KTHREAD: u32 = 0x20_0000;

/// The contents of a task's `stat` file (proc_pid_stat(5)).
#[derive(Debug)]
pub(super) struct Stat {
    /// Name of the thread.
    pub(super) comm: String,
    /// The fields that follow the name, separated by spaces.
    fields: String,
}

impl Stat {
    pub(super) fn read(task: &Path) -> Option<Self> {
        Self::parse(&read_bounded(&task.join("stat"), MAX_STAT_BYTES).ok()?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name may contain parentheses; the fields after it do not.
        let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        Some(Self {
            comm: String::from_utf8_lossy(stat.get(begin..end)?).into_owned(),
            fields: String::from_utf8(stat.get(end + 1..)?.to_owned()).ok()?,
        })
    }

    /// Returns a field by its number in the manual page, from 3 on.
    pub(super) fn field<T: FromStr>(&self, number: usize) -> Option<T> {
        let field = self.fields.split_ascii_whitespace().nth(number - 3)?;
        field.parse().ok()
    }

    /// Start time of the task in clock ticks of `CLOCK_BOOTTIME`, rounded down.
    pub(super) fn start_ticks(&self) -> Option<u64> {
        self.field(22)
    }

    /// Time in the guest, in clock ticks. A part of the user time.
    pub(super) fn guest_ticks(&self) -> Option<u64> {
        self.field(43)
    }
}

/// Ids of a task in each pid namespace, from that of `/proc` down to the task's own.
pub(super) fn namespace_ids(task: &Path) -> Vec<u32> {
    let ids = status_field(task, "NSpid:").unwrap_or_default();
    ids.split_ascii_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

/// Value of a line of the task's `status` file.
pub(super) fn status_field(task: &Path, name: &str) -> Option<String> {
    let status = read_system_file(task.join("status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// Flags (`PF_...`) of a task.
pub(super) fn flags(task: &Path) -> Option<u32> {
    Stat::read(task)?.field(9)
}

/// Whether a process is a kernel thread. `false` if it has ended.
pub(super) fn is_kernel_thread(process: &Path) -> bool {
    flags(process).is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// Process id of the parent of a process.
pub(super) fn parent(process: &Path) -> Option<u32> {
    Stat::read(process)?.field(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeRoot;

    #[test]
    fn a_name_with_parentheses_does_not_hide_the_fields() {
        let tree = FakeRoot::new();
        tree.file("7/stat", "7 (a) R (b) S 1 7 7 0 -1 4194560 100 0");
        let process = tree.path().join("7");
        assert_eq!(flags(&process), Some(4_194_560));
        assert_eq!(parent(&process), Some(1));
        assert!(!is_kernel_thread(&process));
        tree.file("8/stat", "8 (kdamond.0) S 2 0 0 0 -1 2129984 0 0");
        assert!(is_kernel_thread(&tree.path().join("8")));
        assert!(!is_kernel_thread(&tree.path().join("9")), "it has ended");
        let stat = Stat::read(&process).unwrap();
        assert_eq!((stat.comm.as_str(), stat.field(3)), ("a) R (b", Some('S')));
        assert_eq!(stat.start_ticks(), None, "there are fewer fields");
        assert!(Stat::parse(b"7 (a").is_none());
    }
}
