//! Reads the names of threads and VMs while they live: together with their first event.

use std::collections::HashSet;

use super::queue::NewNames;
use crate::{
    host::process,
    model::{Batch, ThreadId, capacity::MAX_KNOWN_TASKS},
};

/// Threads whose event was seen lately, by the last bits of their number: nearly every event is of one of them.
const RECENT_THREADS: usize = 1024;

/// No thread.
const NOBODY: ThreadId = ThreadId {
    tgid: u32::MAX,
    tid: u32::MAX,
};

/// Finds the threads and processes of a stream that have no name yet.
#[derive(Debug)]
pub(super) struct NameReader {
    recent: Vec<ThreadId>,
    /// Threads, and processes by their first thread.
    seen: HashSet<ThreadId>,
    /// Read the names of processes and of their VMs as well.
    has_processes: bool,
}

impl NameReader {
    /// Reads the names of threads; those of processes and VMs only if they are needed.
    pub(super) fn new(has_processes: bool) -> Self {
        Self {
            recent: vec![NOBODY; RECENT_THREADS],
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
        self.read_with(batch, process::comm_at, vm_name)
    }

    fn read_with(
        &mut self,
        batch: &Batch,
        comm_at: impl Fn(u32, u32, u64) -> Option<String>,
        vm_name: impl Fn(u32) -> Option<String>,
    ) -> NewNames {
        let mut names = NewNames::default();
        for (_, record) in batch.records() {
            let header = &record.header;
            let thread = ThreadId {
                tgid: header.tgid,
                tid: header.tid,
            };
            let recent = &mut self.recent[thread.tid as usize % RECENT_THREADS];
            if record.thread_end_comm().is_some() {
                // Its number may be another thread's from here on.
                *recent = NOBODY;
                self.seen.remove(&thread);
                continue;
            }
            if *recent == thread {
                continue;
            }
            *recent = thread;
            if self.seen.len() >= MAX_KNOWN_TASKS {
                // Those that live are read again.
                self.seen.clear();
            }
            let mut is_new = |thread: ThreadId| {
                let is_new = self.seen.insert(thread);
                if is_new {
                    let name = comm_at(thread.tgid, thread.tid, header.time_ns);
                    names.threads.extend(name.map(|name| (thread, name)));
                }
                is_new
            };
            let is_new_thread = is_new(thread);
            let first = ThreadId {
                tid: thread.tgid,
                ..thread
            };
            if self.has_processes && if thread == first { is_new_thread } else { is_new(first) } {
                let name = vm_name(thread.tgid);
                names.vms.extend(name.map(|name| (thread.tgid, name)));
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
            |_, tid, _| ask("thread", tid),
            |tgid| ask("vm", tgid),
        );
        let threads = names.threads.into_iter().map(|it| it.1);
        let mut read: Vec<_> = threads.chain(names.vms.into_iter().map(|it| it.1)).collect();
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
