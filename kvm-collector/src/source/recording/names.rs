//! Names of threads and VMs, as a recording says them.

use std::collections::{HashMap, VecDeque};

use crate::{
    host::VmNames,
    model::{Thread, capacity::MOST_NAMED},
    recording::kind,
};

/// Names of threads and VMs, as of the event that is given out.
#[derive(Debug, Default)]
pub struct Names {
    comms: HashMap<u32, ThreadName>,
    /// Threads that have ended, in this order. Their names are still asked for: a VM goes by its process's.
    ended: VecDeque<u32>,
    vms: VmNames,
}

#[derive(Debug)]
struct ThreadName {
    tgid: u32,
    has_ended: bool,
    name: Box<str>,
}

impl Names {
    /// The thread's name; `<...>`, as ftrace has it, if the recording does not say.
    #[must_use]
    pub fn comm(&self, thread: Thread) -> &str {
        let unknown = if thread.tid == 0 { "<idle>" } else { "<...>" };
        self.comm_known(thread).unwrap_or(unknown)
    }

    /// A number is used again: a name is only that of a process's thread.
    fn comm_known(&self, thread: Thread) -> Option<&str> {
        let known = self.comms.get(&thread.tid)?;
        (known.tgid == thread.tgid).then_some(&known.name)
    }

    /// The VM's name: as it was when it was recorded, or made of its process' name.
    #[must_use]
    pub fn vm(&self, tgid: u32) -> String {
        match tgid {
            0 => self.vms.get(0).to_owned(),
            tgid => self.vm_known(tgid).unwrap_or_else(|| "?".to_owned()),
        }
    }

    /// As [`Names::vm`], if the recording says it.
    #[must_use]
    pub fn vm_known(&self, tgid: u32) -> Option<String> {
        let main = Thread { tgid, tid: tgid };
        match (self.vms.known(tgid), self.comm_known(main)) {
            (Some(name), _) => Some(name.to_owned()),
            (None, Some(comm)) => Some(format!("{comm}-{tgid}")),
            (None, None) => None,
        }
    }

    pub(super) fn from_lines(vms: &str) -> Self {
        Self {
            vms: VmNames::from_lines(vms),
            ..Self::default()
        }
    }

    /// Learns what a record says of a thread's name.
    pub(super) fn learn(&mut self, record: &[u8]) {
        if let Some((thread, comm)) = kind::comm(record) {
            self.set(thread, comm);
        } else if let Some((thread, parent)) = kind::fork(record) {
            if thread.tid != parent.tid
                && let Some(comm) = self.comm_known(parent).map(Box::from)
            {
                self.set(thread, comm);
            }
        } else if let Some(tid) = kind::ended_thread(record)
            && let Some(known) = self.comms.get_mut(&tid)
            && !known.has_ended
        {
            known.has_ended = true;
            self.ended.push_back(tid);
        }
    }

    /// If there is no room, those that ended first are forgotten; a name that then finds none stays unknown.
    fn set(&mut self, thread: Thread, name: Box<str>) {
        while self.comms.len() >= MOST_NAMED && !self.comms.contains_key(&thread.tid) {
            let Some(first) = self.ended.pop_front() else {
                return;
            };
            if self.comms.get(&first).is_some_and(|it| it.has_ended) {
                self.comms.remove(&first);
            }
        }
        if self.ended.len() >= 2 * MOST_NAMED {
            // Most of these numbers have been used again.
            let comms = &self.comms;
            let mut seen = std::collections::HashSet::new();
            self.ended.retain(|tid| {
                comms.get(tid).is_some_and(|it| it.has_ended) && seen.insert(*tid)
            });
        }
        let tgid = thread.tgid;
        let has_ended = false;
        self.comms.insert(
            thread.tid,
            ThreadName {
                tgid,
                has_ended,
                name,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tgid: u32, tid: u32) -> Thread {
        Thread { tgid, tid }
    }

    /// A record of a type (`PERF_RECORD_*`), with these numbers and this text.
    fn record(kind: u32, numbers: &[u32], text: &str) -> Vec<u8> {
        let mut record = kind.to_ne_bytes().to_vec();
        record.extend_from_slice(&[0; 4]);
        for number in numbers {
            record.extend_from_slice(&number.to_ne_bytes());
        }
        record.extend_from_slice(text.as_bytes());
        record.resize(record.len() + 8, 0);
        record
    }

    fn comm(tgid: u32, tid: u32, name: &str) -> Vec<u8> {
        record(kind::COMM, &[tgid, tid], name)
    }

    fn exit(tgid: u32, tid: u32) -> Vec<u8> {
        record(kind::EXIT, &[tgid, tgid, tid, tid, 0, 0], "")
    }

    #[test]
    fn a_name_is_that_of_a_processs_thread() {
        let mut names = Names::default();
        names.learn(&comm(7, 7, "qemu"));
        names.learn(&comm(7, 8, "CPU 0/KVM"));
        assert_eq!(names.comm(thread(7, 8)), "CPU 0/KVM");
        // The numbers are used again, and the ends of the ones before are not in the file.
        assert_eq!(names.comm(thread(9, 8)), "<...>");
        names.learn(&comm(9, 7, "worker"));
        assert_eq!(names.vm_known(7), None);
        // A new thread begins with its parent's name.
        names.learn(&record(kind::FORK, &[9, 9, 10, 7], ""));
        assert_eq!(names.comm(thread(9, 10)), "worker");
        // After its end, its name is still asked for.
        names.learn(&comm(20, 20, "qemu"));
        names.learn(&exit(20, 20));
        assert_eq!(names.vm(20), "qemu-20");
    }

    #[test]
    fn memory_is_bounded_and_what_lives_keeps_its_name() {
        let mut names = Names::default();
        names.learn(&comm(1, 1, "first"));
        let most = u32::try_from(MOST_NAMED).expect("a small number");
        for tid in 2..2 * most {
            names.learn(&comm(tid, tid, "vcpu"));
            names.learn(&exit(tid, tid));
            names.learn(&exit(tid, tid));
        }
        assert_eq!(names.comms.len(), MOST_NAMED);
        assert!(names.ended.len() <= 2 * MOST_NAMED);
        assert_eq!(names.comm(thread(1, 1)), "first");
        let last = 2 * most - 1;
        assert_eq!(names.comm(thread(last, last)), "vcpu");
        // One number that is used over and over.
        for _ in 0..3 * most {
            names.learn(&comm(5, 5, "vcpu"));
            names.learn(&exit(5, 5));
        }
        assert!(names.ended.len() <= 2 * MOST_NAMED);
        // Where none has ended, further ones have no name.
        let mut names = Names::default();
        for tid in 1..=most + 1 {
            names.learn(&comm(tid, tid, "vcpu"));
        }
        assert_eq!(names.comms.len(), MOST_NAMED);
        assert_eq!(names.comm(thread(most + 1, most + 1)), "<...>");
    }
}
