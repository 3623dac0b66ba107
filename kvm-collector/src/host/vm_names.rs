//! VM names, read while the VM lives and kept after it has ended.

use std::{collections::HashMap, path::Path};

use super::{process, vm};

/// Names of VMs by process.
#[derive(Debug, Default)]
pub struct VmNames {
    known: HashMap<u32, Process>,
}

/// A process whose VM's name is known.
#[derive(Debug)]
struct Process {
    name: String,
    /// When it started, as `/proc` says it; `None` if it had ended before that could be read.
    started: Option<u64>,
}

/// What is new about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// It is known.
    Known,
    /// It was not known.
    New,
    /// Another process with the same number was known, which has ended.
    Reused,
}

impl VmNames {
    /// Learns the name of a process in which something has just happened. `comm` is the name of one of its threads, for a
    /// process that has ended by now: it is called by that.
    pub fn learn(&mut self, tgid: u32, comm: Option<&str>) -> Learned {
        let started = process::start_time(tgid);
        let is_reused = match self.known.get(&tgid) {
            // One that has ended cannot be asked. As a rule it is the one that is known: numbers are used again late.
            Some(known) if known.started.is_none() || started.is_none() => return Learned::Known,
            Some(known) if known.started == started => return Learned::Known,
            Some(_) => true,
            None => false,
        };
        let name = started.and_then(|_| vm::name_of(Path::new("/proc"), tgid));
        // It may have ended, and its number be another's, while its name was read.
        let name = name.filter(|_| process::start_time(tgid) == started);
        let Some(name) = name.or_else(|| comm.map(|comm| format!("{comm}-{tgid}"))) else {
            return Learned::Known;
        };
        self.known.insert(tgid, Process { name, started });
        match is_reused {
            true => Learned::Reused,
            false => Learned::New,
        }
    }

    /// A line for each: its process, a tab, its name.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let mut lines: Vec<_> = self.known.iter().collect();
        lines.sort_by_key(|(tgid, _)| **tgid);
        lines
            .iter()
            .map(|(tgid, it)| format!("{tgid}\t{}\n", it.name.replace(['\n', '\t'], " ")))
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

    /// Above any real process's number (`PID_MAX_LIMIT` is 2^22).
    const NOBODY: u32 = 1 << 30;

    #[test]
    fn a_process_that_has_ended_is_called_by_its_thread() {
        let mut names = VmNames::default();
        assert_eq!(names.learn(NOBODY, None), Learned::Known);
        assert_eq!(names.get(NOBODY), "?");
        assert_eq!(names.learn(NOBODY, Some("CPU 0/KVM")), Learned::New);
        assert_eq!(names.get(NOBODY), format!("CPU 0/KVM-{NOBODY}"));
        assert_eq!(names.learn(NOBODY, Some("other")), Learned::Known);
    }

    #[test]
    fn a_number_that_is_used_again_gets_the_new_name() {
        let own = std::process::id();
        let mut names = VmNames::default();
        let process = Process {
            name: "before".to_owned(),
            started: Some(1),
        };
        names.known.insert(own, process);
        assert_eq!(names.learn(own, Some("thread")), Learned::Reused);
        assert_ne!(names.get(own), "before");
        assert_eq!(names.learn(own, Some("thread")), Learned::Known);
    }
}
