//! Reads the names of threads and VMs while they live: together with their first event.

use std::collections::HashSet;

use super::queue::NewNames;
use crate::{host::process, model::Batch};

/// Threads whose event was seen lately, by the last bits of their number: nearly every event is of one of them.
const RECENT_THREADS: usize = 1024;

/// Finds the threads and processes of a stream that have no name yet.
#[derive(Debug)]
pub(super) struct NameReader {
    recent: Vec<u32>,
    /// Threads, and processes by the number of their first thread.
    seen: HashSet<u32>,
    /// Read the names of processes and of their VMs as well.
    has_processes: bool,
}

impl NameReader {
    /// Reads the names of threads; those of processes and VMs only if they are needed.
    pub(super) fn new(has_processes: bool) -> Self {
        Self {
            recent: vec![u32::MAX; RECENT_THREADS],
            seen: HashSet::new(),
            has_processes,
        }
    }

    /// The names of all threads and VMs whose first event is in a batch. A name that cannot be read any more is left out.
    pub(super) fn read(
        &mut self,
        batch: &Batch,
        vm_name: impl Fn(u32) -> Option<String>,
    ) -> NewNames {
        self.read_with(batch, process::comm, vm_name)
    }

    fn read_with(
        &mut self,
        batch: &Batch,
        comm: impl Fn(u32) -> Option<String>,
        vm_name: impl Fn(u32) -> Option<String>,
    ) -> NewNames {
        let mut names = NewNames::default();
        for (_, record) in batch.records() {
            let (tgid, tid) = (record.header.tgid, record.header.tid);
            let recent = &mut self.recent[tid as usize % RECENT_THREADS];
            if record.ended_comm().is_some() {
                // Its number may be another thread's from here on.
                *recent = u32::MAX;
                self.seen.remove(&tid);
                continue;
            }
            if *recent == tid {
                continue;
            }
            *recent = tid;
            let mut is_new = |tid| {
                let is_new = self.seen.insert(tid);
                if is_new {
                    names.threads.extend(comm(tid).map(|name| (tid, name)));
                }
                is_new
            };
            let is_new_thread = is_new(tid);
            if self.has_processes && if tgid == tid { is_new_thread } else { is_new(tgid) } {
                names.vms.extend(vm_name(tgid).map(|name| (tgid, name)));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use kvm_ebpf_common::THREAD_END_SLOT;

    use super::{super::queue::tests::batch_of, *};

    /// What is looked up, and in which order.
    fn looked_up(reader: &mut NameReader, records: &[(u16, u32, u32)]) -> Vec<String> {
        let asked = RefCell::new(Vec::new());
        let ask = |what: &str, id: u32| {
            asked.borrow_mut().push(format!("{what} {id}"));
            Some(format!("{what} {id}"))
        };
        let names = reader.read_with(
            &batch_of(records),
            |tid| ask("thread", tid),
            |tgid| ask("vm", tgid),
        );
        let read = names.threads.into_iter().chain(names.vms);
        let mut read: Vec<_> = read.map(|(_, name)| name).collect();
        let mut asked = asked.into_inner();
        read.sort();
        asked.sort();
        assert_eq!(read, asked);
        asked
    }

    #[test]
    fn each_thread_and_process_is_looked_up_once() {
        let mut reader = NameReader::new(true);
        let records = [(0, 7, 8), (1, 7, 9), (0, 7, 8), (0, 7, 7), (0, 5, 5)];
        assert_eq!(
            looked_up(&mut reader, &records),
            ["thread 5", "thread 7", "thread 8", "thread 9", "vm 5", "vm 7"]
        );
        assert!(looked_up(&mut reader, &records).is_empty());
    }

    #[test]
    fn a_number_that_is_used_again_is_looked_up_again() {
        let mut reader = NameReader::new(false);
        let records = [(0, 7, 8), (THREAD_END_SLOT, 7, 8), (0, 7, 8)];
        assert_eq!(looked_up(&mut reader, &records), ["thread 8", "thread 8"]);
    }

    #[test]
    fn threads_that_share_an_entry_are_looked_up_once_each() {
        let mut reader = NameReader::new(false);
        let other = 8 + u32::try_from(RECENT_THREADS).unwrap();
        let records = [(0, 7, 8), (0, 7, other), (0, 7, 8), (0, 7, other)];
        assert_eq!(
            looked_up(&mut reader, &records),
            [format!("thread {other}"), "thread 8".into()]
        );
    }
}
