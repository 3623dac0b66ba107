//! Reads the names of threads and VMs when their first event arrives. Later the thread may have ended,
//! and `/proc` no longer has its name.

use std::collections::HashSet;

use super::queue::NewNames;
use crate::{
    host::process,
    model::{Batch, ThreadId, VmName, capacity::MAX_KNOWN_TASKS},
};

/// Entries in the cache of recent threads. The low bits of the thread id select the entry. Nearly every
/// event is of a cached thread.
const RECENT_THREADS: usize = 1024;

/// Marks an unused cache entry.
const NO_THREAD: ThreadId = ThreadId {
    tgid: u32::MAX,
    tid: u32::MAX,
};

/// Reads the names of threads and VMs that are new in a stream.
#[derive(Debug)]
pub(super) struct NameReader {
    /// Cache of recently seen threads.
    recent: Vec<ThreadId>,
    /// Threads with a known name. A process is represented by its main thread.
    seen: HashSet<ThreadId>,
    /// Also read the names of processes and VMs.
    reads_vm_names: bool,
}

impl NameReader {
    /// Creates a reader of thread names and, if requested, of process and VM names.
    pub(super) fn new(reads_vm_names: bool) -> Self {
        Self {
            recent: vec![NO_THREAD; RECENT_THREADS],
            seen: HashSet::new(),
            reads_vm_names,
        }
    }

    /// Returns the names of all threads and VMs with their first event in the batch. Names that cannot be
    /// read are omitted.
    pub(super) fn read(
        &mut self,
        batch: &Batch,
        vm_name: impl Fn(u32) -> Option<VmName>,
    ) -> NewNames {
        self.read_with(batch, process::comm_at, vm_name)
    }

    fn read_with(
        &mut self,
        batch: &Batch,
        comm_at: impl Fn(u32, u32, u64) -> Option<String>,
        vm_name: impl Fn(u32) -> Option<VmName>,
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
                // The kernel may reuse the thread id from here on.
                *recent = NO_THREAD;
                self.seen.remove(&thread);
                continue;
            }
            if *recent == thread {
                continue;
            }
            *recent = thread;
            if self.seen.len() >= MAX_KNOWN_TASKS {
                // Bound the memory. The names of running threads will be read again.
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
            let main_thread = ThreadId {
                tid: thread.tgid,
                ..thread
            };
            if self.reads_vm_names
                && if thread == main_thread {
                    is_new_thread
                } else {
                    is_new(main_thread)
                }
            {
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

    /// Reads the names of these records (slot, tgid, tid). Returns the sorted lookups.
    fn looked_up(reader: &mut NameReader, records: &[(u16, u32, u32)]) -> Vec<String> {
        let lookups = RefCell::new(Vec::new());
        let look_up = |kind: &str, id: u32| {
            lookups.borrow_mut().push(format!("{kind} {id}"));
            Some(format!("{kind} {id}"))
        };
        let names = reader.read_with(
            &batch_of(records),
            |_, tid, _| look_up("thread", tid),
            |tgid| look_up("vm", tgid).map(VmName::from),
        );
        let threads = names.threads.into_iter().map(|it| it.1);
        let mut read: Vec<_> = threads
            .chain(names.vms.into_iter().map(|it| it.1.name))
            .collect();
        let mut lookups = lookups.into_inner();
        read.sort();
        lookups.sort();
        assert_eq!(read, lookups);
        lookups
    }

    #[test]
    fn each_thread_and_process_is_looked_up_once() {
        let mut reader = NameReader::new(true);
        let records = [(0, 7, 8), (1, 7, 9), (0, 7, 8), (0, 7, 7), (0, 5, 5)];
        assert_eq!(
            looked_up(&mut reader, &records),
            [
                "thread 5", "thread 7", "thread 8", "thread 9", "vm 5", "vm 7"
            ]
        );
        assert!(looked_up(&mut reader, &records).is_empty());
    }

    #[test]
    fn a_reused_thread_id_is_looked_up_again() {
        let mut reader = NameReader::new(false);
        let records = [(0, 7, 8), (THREAD_END_SLOT, 7, 8), (0, 7, 8)];
        assert_eq!(looked_up(&mut reader, &records), ["thread 8", "thread 8"]);
    }

    #[test]
    fn threads_with_the_same_cache_entry_are_looked_up_once_each() {
        let mut reader = NameReader::new(false);
        let other = 8 + u32::try_from(RECENT_THREADS).unwrap();
        let records = [(0, 7, 8), (0, 7, other), (0, 7, 8), (0, 7, other)];
        assert_eq!(
            looked_up(&mut reader, &records),
            [format!("thread {other}"), "thread 8".into()]
        );
    }
}
