//! VM names, read while the VM lives and kept after it has ended.

use std::collections::{HashMap, VecDeque};

use super::{next_process_id, pid_of, process, vm};

/// Names that are stored at most, at some 100 bytes each; beyond that, those of processes that ended first are forgotten.
const MOST_NAMES: usize = 65_536;

/// Names of VMs by process.
#[derive(Debug, Default)]
pub struct VmNames {
    /// By [`process_id`](super::process_id).
    known: HashMap<u32, Process>,
    /// The latest process of each number that was used again.
    reused: HashMap<u32, u32>,
    /// In the order in which they became known.
    order: VecDeque<u32>,
}

/// A process whose VM's name is known.
#[derive(Debug)]
struct Process {
    name: String,
    /// When it started, as `/proc` says it; `None` if it had ended before that could be read.
    started: Option<u64>,
}

impl VmNames {
    /// Learns the name of a process in which something has just happened, by its number; returns its
    /// [`process_id`](super::process_id). `comm` is the name of one of its threads, for a process that has ended by
    /// now: it is called by that.
    pub fn learn(&mut self, pid: u32, comm: Option<&str>) -> u32 {
        let started = process::start_time(pid);
        let mut id = self.latest(pid);
        if let Some(known) = self.known.get(&id) {
            // One that has ended cannot be asked. As a rule it is the one that is known: numbers are used again late.
            if started.is_none() || known.started == started {
                return id;
            }
            id = next_process_id(id);
        }
        let name = started.and_then(|_| vm::name_of(pid));
        // It may have ended, and its number be another's, while its name was read.
        let name = name.filter(|_| process::start_time(pid) == started);
        let Some(name) = name.or_else(|| comm.map(|comm| format!("{comm}-{pid}"))) else {
            return id;
        };
        if id != pid {
            self.reused.insert(pid, id);
        }
        if self.known.insert(id, Process { name, started }).is_none() {
            self.order.push_back(id);
            self.forget_ended();
        }
        id
    }

    /// The [`process_id`](super::process_id) of the latest process with a number.
    #[must_use]
    pub fn latest(&self, pid: u32) -> u32 {
        self.reused.get(&pid).copied().unwrap_or(pid)
    }

    /// The name of the process that has a number now, if it is known; of one that has ended, the name of the latest.
    #[must_use]
    pub fn of_current(&self, pid: u32) -> Option<&str> {
        let known = self.known.get(&self.latest(pid))?;
        let started = process::start_time(pid);
        let is_same = started.is_none() || known.started.is_none() || known.started == started;
        is_same.then_some(known.name.as_str())
    }

    /// Forgets the processes that ended first, if there are too many.
    fn forget_ended(&mut self) {
        // Those that live are looked at once each, and stay.
        for _ in 0..self.order.len() {
            if self.known.len() <= MOST_NAMES {
                return;
            }
            let Some(id) = self.order.pop_front() else {
                return;
            };
            let started = self.known.get(&id).and_then(|it| it.started);
            if started.is_some() && process::start_time(pid_of(id)) == started {
                self.order.push_back(id);
            } else {
                self.known.remove(&id);
                // What it had counted is still stored under this identity.
                self.reused.insert(pid_of(id), next_process_id(id));
            }
        }
    }

    /// Learns the name of the latest process with a number, which was read elsewhere.
    pub fn learn_name(&mut self, pid: u32, name: String) {
        let mut id = self.latest(pid);
        if self.known.get(&id).is_some_and(|it| it.name != name) {
            id = next_process_id(id);
            self.reused.insert(pid, id);
        }
        let process = Process {
            name,
            started: None,
        };
        if self.known.insert(id, process).is_none() {
            self.order.push_back(id);
            self.forget_ended();
        }
    }

    /// A line for each: its process, a tab, its name.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut lines: Vec<_> = self.known.iter().collect();
        lines.sort_by_key(|(id, _)| **id);
        lines
            .iter()
            .map(|(id, it)| format!("{}\t{}\n", pid_of(**id), it.name.replace(['\n', '\t'], " ")))
            .collect()
    }

    /// Names from such lines; others are skipped.
    #[must_use]
    pub fn from_lines(text: &str) -> Self {
        let line = |line: &str| {
            let (tgid, name) = line.split_once('\t')?;
            let process = Process {
                name: name.to_owned(),
                started: None,
            };
            Some((tgid.parse().ok()?, process))
        };
        Self {
            known: text.lines().filter_map(line).collect(),
            ..Self::default()
        }
    }

    /// The name, if it is known.
    #[must_use]
    pub fn known(&self, tgid: u32) -> Option<&str> {
        self.known.get(&tgid).map(|it| it.name.as_str())
    }

    /// The name, or `?` for a process that ended before it could be read. 0 stands for the VMs that ended
    /// so long ago that they are not told apart any more.
    #[must_use]
    pub fn get(&self, tgid: u32) -> &str {
        if tgid == 0 {
            return "VMs that ended earlier";
        }
        self.known(tgid).unwrap_or("?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No process has it (`PID_MAX_LIMIT` is 2^22).
    const NOBODY: u32 = (1 << 22) - 1;

    #[test]
    fn a_process_that_has_ended_is_called_by_its_thread() {
        let mut names = VmNames::default();
        assert_eq!(names.learn(NOBODY, None), NOBODY);
        assert_eq!(names.get(NOBODY), "?");
        assert_eq!(names.learn(NOBODY, Some("CPU 0/KVM")), NOBODY);
        assert_eq!(names.get(NOBODY), format!("CPU 0/KVM-{NOBODY}"));
        assert_eq!(names.learn(NOBODY, Some("other")), NOBODY);
    }

    #[test]
    fn a_process_with_a_number_that_was_used_before_is_another() {
        let own = std::process::id();
        let mut names = VmNames::default();
        let process = Process {
            name: "before".to_owned(),
            started: Some(1),
        };
        names.known.insert(own, process);
        assert_eq!(names.latest(own), own);
        assert_eq!(names.of_current(own), None, "that is the name of another one");
        let id = names.learn(own, Some("thread"));
        assert_ne!(id, own);
        assert_eq!((pid_of(id), names.latest(own)), (own, id));
        assert_ne!(names.get(id), "before");
        assert_eq!(names.of_current(own), names.known(id));
        assert_eq!(names.get(own), "before");
        assert_eq!(names.learn(own, Some("thread")), id);
    }

    #[test]
    fn the_names_that_are_stored_are_bounded() {
        let mut names = VmNames::default();
        let own = std::process::id();
        names.learn(own, None);
        for pid in (1 << 21)..(1 << 21) + 2 * u32::try_from(MOST_NAMES).unwrap() {
            if process::start_time(pid).is_none() {
                names.learn(pid, Some("gone"));
            }
        }
        assert!(names.known.len() <= MOST_NAMES && names.order.len() <= MOST_NAMES);
        assert!(names.known(own).is_some(), "it lives");
    }
}
