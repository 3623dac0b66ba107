//! Names of threads and VMs from a recording.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{
    host::{VmName, VmNames},
    model::{ThreadId, capacity::MAX_KNOWN_TASKS},
    recording::decode,
};

/// Names of threads and VMs at the time of the current event.
#[derive(Debug, Default)]
pub struct RecordedNames {
    comms: HashMap<u32, ThreadName>,
    /// Threads that have ended, in that order. Their names are still needed: the name of a VM may
    /// be that of its main thread.
    ended: VecDeque<u32>,
    vms: VmNames,
    /// The processes that had events which only vCPU threads have; `None` if they are not looked for, or if the recording has no
    /// such events.
    vcpu_processes: Option<HashSet<u32>>,
}

#[derive(Debug)]
struct ThreadName {
    tgid: u32,
    has_ended: bool,
    name: Box<str>,
}

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
            (None, None) => None,
        }
    }

    /// Returns whether a process is a VM as far as the recording tells: it had an event that only vCPU threads have, or its
    /// command line names a VM. Events of KVM also happen in other processes and in kernel threads, which reclaim memory of guests
    /// for example. Without [`Recording::identify_vms`](super::Recording::identify_vms), or if no such event was recorded, every
    /// process may be a VM. Process 0 stands for merged VMs.
    #[must_use]
    pub fn is_vm(&self, tgid: u32) -> bool {
        let Some(known) = &self.vcpu_processes else {
            return true;
        };
        // The name of another process is made from its comm.
        let is_of_vm = |vm: &VmName| vm.uuid.is_some() || !vm.name.ends_with(&format!("-{tgid}"));
        tgid == 0 || known.contains(&tgid) || self.vms.find_name(tgid).is_some_and(is_of_vm)
    }

    /// Starts to store which processes are VMs.
    pub(super) fn identify_vms(&mut self) {
        self.vcpu_processes = Some(HashSet::new());
    }

    /// Stores that a process is a VM. If there are very many, every process counts as a VM from then on.
    pub(super) fn add_vm(&mut self, tgid: u32) {
        if let Some(known) = &mut self.vcpu_processes
            && known.insert(tgid)
            && known.len() > MAX_KNOWN_TASKS
        {
            self.vcpu_processes = None;
        }
    }

    /// Creates the table with the VM names in a recording's metadata.
    pub(super) fn from_vm_lines(vms: &str) -> Self {
        Self {
            vms: VmNames::from_lines(vms),
            ..Self::default()
        }
    }

    /// Updates the names from a record: a new name, a new thread or the end of a thread.
    pub(super) fn add_record(&mut self, record: &[u8]) {
        if let Some((thread, comm)) = decode::comm(record) {
            self.set(thread, comm);
        } else if let Some((thread, parent)) = decode::fork(record) {
            if thread.tid != parent.tid
                && let Some(comm) = self.known_comm(parent).map(Box::from)
            {
                self.set(thread, comm);
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
    fn processes_without_vcpu_threads_are_no_vms() {
        let mut names = RecordedNames::from_vm_lines("7\tdb-1\n8\tkdamond-8\n");
        // As long as nothing is known of vCPU threads, every process may be a VM.
        assert!(names.is_vm(8) && names.is_vm(9));
        names.identify_vms();
        names.add_vm(9);
        assert_eq!(
            [7, 8, 9, 10].map(|it| names.is_vm(it)),
            [true, false, true, false]
        );
        assert!(names.is_vm(0), "merged VMs");
        for tgid in 0..=u32::try_from(MAX_KNOWN_TASKS).expect("a small number") {
            names.add_vm(tgid);
        }
        assert!(names.is_vm(u32::MAX), "the table is full");
        assert!(names.vcpu_processes.is_none());
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
