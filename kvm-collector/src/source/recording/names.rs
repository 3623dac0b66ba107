//! Names of threads and VMs from a recording.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{super::vm_evidence::VmEvidence, later_names::LaterNames};
use crate::{
    host::{VmName, VmNames},
    model::{ThreadId, capacity::MAX_KNOWN_TASKS},
    recording::decode,
};

/// Names of threads and VMs at the time of the current event. A VM that the recording names only later has its name from the start.
#[derive(Debug, Default)]
pub struct RecordedNames {
    comms: HashMap<u32, ThreadName>,
    /// Threads that have ended, in that order. Their names are still needed: the name of a VM may
    /// be that of its main thread.
    ended: VecDeque<u32>,
    vms: VmNames,
    later: LaterNames,
    /// What tells which processes are VMs; `None` if that is not looked for.
    vm_evidence: Option<VmEvidence>,
}

#[derive(Debug)]
struct ThreadName {
    tgid: u32,
    has_ended: bool,
    is_kernel_thread: bool,
    name: Box<str>,
}

/// The kernel thread that is the parent of the others.
const KTHREADD: (u32, &str) = (2, "kthreadd");

impl RecordedNames {
    /// Returns the name of a thread; `<...>`, as in ftrace, if the recording does not contain it.
    #[must_use]
    pub fn comm(&self, thread: ThreadId) -> &str {
        let unknown = if thread.tid == 0 { "<idle>" } else { "<...>" };
        self.known_comm(thread).unwrap_or(unknown)
    }

    /// Returns the stored name of a thread, if it is of the same process: the kernel reuses thread
    /// numbers.
    fn known_comm(&self, thread: ThreadId) -> Option<&str> {
        let known = self.comms.get(&thread.tid)?;
        (known.tgid == thread.tgid).then_some(&known.name)
    }

    /// Returns the name of a VM: the recorded one, or one that is made from the name of its
    /// process; `?` if the recording contains neither.
    #[must_use]
    pub fn vm_name(&self, tgid: u32) -> VmName {
        match tgid {
            0 => self.vms.display_name(0),
            tgid => self.known_vm_name(tgid).unwrap_or_else(VmName::unknown),
        }
    }

    /// As [`RecordedNames::vm_name`], but `None` if the recording contains no name.
    #[must_use]
    pub fn known_vm_name(&self, tgid: u32) -> Option<VmName> {
        let main = ThreadId { tgid, tid: tgid };
        match (self.vms.find_name(tgid), self.known_comm(main)) {
            (Some(name), _) => Some(name.clone()),
            (None, Some(comm)) => Some(format!("{comm}-{tgid}").into()),
            (None, None) if tgid == 0 => None,
            (None, None) => self.later.find(tgid).cloned(),
        }
    }

    /// Returns the names of all processes of which the recording contains one.
    pub(super) fn all_vm_names(&self) -> HashMap<u32, VmName> {
        let threads = self.comms.iter();
        let processes = threads.filter(|(tid, thread)| **tid == thread.tgid);
        processes
            .filter_map(|(tgid, _)| Some((*tgid, self.known_vm_name(*tgid)?)))
            .collect()
    }

    /// Returns whether a process is a VM: it had an event that only vCPU threads have, selected or not. If no process had such an
    /// event, a process with other events of KVM is a VM, unless it is known to be a kernel thread. A name is no evidence: the
    /// command line of a recorder or of a shell contains names of VMs, too.
    ///
    /// Without [`Recording::identify_vms`](super::Recording::identify_vms) and a selection by process, every process may be a VM.
    #[must_use]
    pub fn is_vm(&self, tgid: u32) -> bool {
        let is_kernel_thread = || {
            let main = self.comms.get(&tgid).filter(|it| it.tgid == tgid);
            tgid == 0 || main.is_some_and(|it| it.is_kernel_thread)
        };
        let evidence = self.vm_evidence.as_ref();
        evidence.is_none_or(|it| it.is_vm(tgid, is_kernel_thread()))
    }

    /// Starts to store which processes are VMs.
    pub(super) fn identify_vms(&mut self) {
        self.vm_evidence = Some(VmEvidence::default());
    }

    /// Returns what tells which processes are VMs, to add events; `None` if that is not looked for.
    #[inline]
    pub(super) fn vm_evidence(&mut self) -> Option<&mut VmEvidence> {
        self.vm_evidence.as_mut()
    }

    /// Creates the table with the VM names in a recording's metadata, and those that follow later.
    pub(super) fn new(vms: &str, later: LaterNames) -> Self {
        Self {
            vms: VmNames::from_lines(vms),
            later,
            ..Self::default()
        }
    }

    /// Updates the names from a record: a new name, a new thread or the end of a thread.
    pub(super) fn add_record(&mut self, record: &[u8]) {
        if let Some((thread, comm)) = decode::comm(record) {
            self.set(thread, comm);
        } else if let Some((thread, parent)) = decode::fork(record) {
            if thread.tid != parent.tid
                && let Some(comm) = self.known_comm(parent).map(Box::<str>::from)
            {
                let is_kernel_thread = (parent.tid, &*comm) == KTHREADD;
                // The number may have been that of another process.
                self.comms.remove(&thread.tid);
                self.set(thread, comm);
                if let Some(known) = self.comms.get_mut(&thread.tid) {
                    known.is_kernel_thread = is_kernel_thread;
                }
            }
        } else if let Some(tid) = decode::exited_tid(record)
            && let Some(known) = self.comms.get_mut(&tid)
            && !known.has_ended
        {
            known.has_ended = true;
            self.ended.push_back(tid);
        }
    }

    /// Stores a name. If the table is full, removes threads that ended first. If none has ended,
    /// the name stays unknown.
    fn set(&mut self, thread: ThreadId, name: Box<str>) {
        while self.comms.len() >= MAX_KNOWN_TASKS && !self.comms.contains_key(&thread.tid) {
            let Some(first) = self.ended.pop_front() else {
                return;
            };
            if self.comms.get(&first).is_some_and(|it| it.has_ended) {
                self.comms.remove(&first);
            }
        }
        if self.ended.len() >= 2 * MAX_KNOWN_TASKS {
            // Most of these numbers have been reused: remove duplicates and running threads.
            let comms = &self.comms;
            let mut seen = HashSet::new();
            self.ended
                .retain(|tid| comms.get(tid).is_some_and(|it| it.has_ended) && seen.insert(*tid));
        }
        let tgid = thread.tgid;
        let has_ended = false;
        let known = self.comms.get(&thread.tid).filter(|it| it.tgid == tgid);
        let is_kernel_thread = known.is_some_and(|it| it.is_kernel_thread && !it.has_ended);
        self.comms.insert(
            thread.tid,
            ThreadName {
                tgid,
                has_ended,
                is_kernel_thread,
                name,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tgid: u32, tid: u32) -> ThreadId {
        ThreadId { tgid, tid }
    }

    /// Builds a record of a type (`PERF_RECORD_*`) from numbers and a text.
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
        record(decode::COMM, &[tgid, tid], name)
    }

    fn exit(tgid: u32, tid: u32) -> Vec<u8> {
        record(decode::EXIT, &[tgid, tgid, tid, tid, 0, 0], "")
    }

    #[test]
    fn name_is_valid_for_the_same_process_only() {
        let mut names = RecordedNames::default();
        names.add_record(&comm(7, 7, "qemu"));
        names.add_record(&comm(7, 8, "CPU 0/KVM"));
        assert_eq!(names.comm(thread(7, 8)), "CPU 0/KVM");
        // The numbers are reused, and the ends of the earlier threads are not in the file.
        assert_eq!(names.comm(thread(9, 8)), "<...>");
        names.add_record(&comm(9, 7, "worker"));
        assert_eq!(names.known_vm_name(7), None);
        // A new thread starts with the name of its parent.
        names.add_record(&record(decode::FORK, &[9, 9, 10, 7], ""));
        assert_eq!(names.comm(thread(9, 10)), "worker");
        // The name is still available after the end of the thread.
        names.add_record(&comm(20, 20, "qemu"));
        names.add_record(&exit(20, 20));
        assert_eq!(names.vm_name(20).name, "qemu-20");
    }

    #[test]
    fn a_name_does_not_make_a_vm() {
        let mut names = RecordedNames::new("7\tdb-1\n8\tdb-1\n", LaterNames::default());
        // As long as nothing is known of events, every process may be a VM.
        assert!(names.is_vm(8) && names.is_vm(9));
        names.identify_vms();
        names.vm_evidence().expect("it is stored").add_vcpu_event(8);
        assert_eq!([0, 7, 8].map(|it| names.is_vm(it)), [false, false, true]);
    }

    #[test]
    fn kernel_threads_are_no_vms() {
        let mut names = RecordedNames::default();
        names.identify_vms();
        // perf record writes the parent and then the name of each process that runs already.
        names.add_record(&comm(2, 2, "kthreadd"));
        for (tgid, parent) in [(8, 2), (9, 1)] {
            names.add_record(&record(decode::FORK, &[tgid, parent, tgid, parent], ""));
            names.add_record(&comm(tgid, tgid, "a name"));
        }
        for tgid in [0, 8, 9] {
            let evidence = names.vm_evidence().expect("it is stored");
            evidence.add_kvm_event(tgid);
        }
        assert_eq!([0, 8, 9].map(|it| names.is_vm(it)), [false, false, true]);
    }

    #[test]
    fn memory_is_bounded_and_running_threads_keep_their_names() {
        let mut names = RecordedNames::default();
        names.add_record(&comm(1, 1, "first"));
        let capacity = u32::try_from(MAX_KNOWN_TASKS).expect("a small number");
        for tid in 2..2 * capacity {
            names.add_record(&comm(tid, tid, "vcpu"));
            names.add_record(&exit(tid, tid));
            names.add_record(&exit(tid, tid));
        }
        assert_eq!(names.comms.len(), MAX_KNOWN_TASKS);
        assert!(names.ended.len() <= 2 * MAX_KNOWN_TASKS);
        assert_eq!(names.comm(thread(1, 1)), "first");
        let last = 2 * capacity - 1;
        assert_eq!(names.comm(thread(last, last)), "vcpu");
        // One number that is reused many times.
        for _ in 0..3 * capacity {
            names.add_record(&comm(5, 5, "vcpu"));
            names.add_record(&exit(5, 5));
        }
        assert!(names.ended.len() <= 2 * MAX_KNOWN_TASKS);
        // If no thread has ended, further threads have no name.
        let mut names = RecordedNames::default();
        for tid in 1..=capacity + 1 {
            names.add_record(&comm(tid, tid, "vcpu"));
        }
        assert_eq!(names.comms.len(), MAX_KNOWN_TASKS);
        assert_eq!(names.comm(thread(capacity + 1, capacity + 1)), "<...>");
    }
}
