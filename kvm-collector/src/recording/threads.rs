//! The names of the recorded threads and VMs.

use std::collections::{HashMap, VecDeque};

use crate::{
    host::{self, VmName, VmNames},
    model::{self, capacity::MAX_KNOWN_TASKS},
};

use super::record_writer::{put_comm, put_exit};

/// Number of slots in the cache of recent threads, which is indexed by the low bits of the TID.
const RECENT_SLOTS: usize = 1 << 12;

/// An empty slot of this cache.
const NO_THREAD: (u32, u32) = (u32::MAX, u32::MAX);

/// The maximum number of exited threads that are stored.
const MAX_EXITED: usize = 1 << 14;

/// Reads the name of a thread. The arguments are its TGID, its TID, and the time of its event.
type CommLookup = fn(u32, u32, u64) -> Option<String>;

/// The recorded threads. Puts the name of each thread before its first event in each
/// file.
#[derive(Debug)]
pub(super) struct ThreadTable {
    /// `(tgid, tid)` of threads with a name in the current file.
    recent: Box<[(u32, u32)]>,
    /// Threads that have not exited, by TID.
    known: HashMap<u32, KnownThread>,
    /// Whether `known` was cleared because it was full.
    has_evicted: bool,
    /// Exited threads, for files that the flight recorder writes later. Each has its time of exit and
    /// its TID.
    exited: VecDeque<(u64, u32, KnownThread)>,
    /// Number of files started so far.
    file_number: u32,
    names: VmNames,
    /// Names that were read before the first event of their thread or process.
    early_thread_names: HashMap<(u32, u32), Box<str>>,
    early_vm_names: HashMap<u32, VmName>,
    comm_lookup: CommLookup,
}

#[derive(Debug, Clone)]
struct KnownThread {
    tgid: u32,
    comm: Option<Box<str>>,
    /// Time of its first event.
    first_ns: u64,
    /// Number of the last file that has its name.
    named_in_file: u32,
}

impl Default for ThreadTable {
    fn default() -> Self {
        Self::with_comm_lookup(host::process::comm_at)
    }
}

impl ThreadTable {
    pub(super) fn with_comm_lookup(comm_lookup: CommLookup) -> Self {
        Self {
            recent: vec![NO_THREAD; RECENT_SLOTS].into_boxed_slice(),
            known: HashMap::new(),
            has_evicted: false,
            exited: VecDeque::new(),
            file_number: 0,
            names: VmNames::default(),
            early_thread_names: HashMap::new(),
            early_vm_names: HashMap::new(),
            comm_lookup,
        }
    }

    /// Stores the name of a thread before its first event.
    pub(super) fn set_thread_name(&mut self, thread: model::ThreadId, name: String) {
        let key = (thread.tgid, thread.tid);
        self.early_thread_names.insert(key, name.into_boxed_str());
    }

    /// Stores the name of a VM before its first event.
    pub(super) fn set_vm_name(&mut self, tgid: u32, name: VmName) {
        self.early_vm_names.insert(tgid, name);
    }

    /// Starts a new file, which needs all names again.
    pub(super) fn start_file(&mut self) {
        self.file_number += 1;
        self.recent.fill(NO_THREAD);
    }

    /// Appends the names of the thread and of its process, unless the file has them already. It is
    /// called for every event, so it first checks a small cache.
    #[inline]
    pub(super) fn put_names_once(&mut self, tgid: u32, tid: u32, time_ns: u64, out: &mut Vec<u8>) {
        let recent = &mut self.recent[tid as usize % RECENT_SLOTS];
        if *recent == (tgid, tid) {
            return;
        }
        *recent = (tgid, tid);
        self.put_name_once(tgid, tid, time_ns, out);
        if tgid != tid {
            // A VM without another name is shown by the name of its process.
            self.put_name_once(tgid, tgid, time_ns, out);
        }
    }

    fn put_name_once(&mut self, tgid: u32, tid: u32, time_ns: u64, out: &mut Vec<u8>) {
        // The exit event may be lost, and another process may have reused the TID.
        if self.known.get(&tid).is_some_and(|it| it.tgid != tgid) {
            self.known.remove(&tid);
        } else if self.known.len() >= MAX_KNOWN_TASKS && !self.known.contains_key(&tid) {
            // The names of living threads are read and written again at their next events.
            self.known.clear();
            self.has_evicted = true;
        }
        let thread = self.known.entry(tid).or_insert_with(|| {
            if tid == tgid && tid != 0 {
                match self.early_vm_names.remove(&tgid) {
                    Some(name) => self.names.insert_name(tgid, name),
                    None => {
                        self.names.add_process(tgid, None);
                    }
                }
            }
            let early_name = self.early_thread_names.remove(&(tgid, tid));
            KnownThread {
                tgid,
                comm: early_name
                    .or_else(|| (self.comm_lookup)(tgid, tid, time_ns).map(String::into_boxed_str)),
                first_ns: time_ns,
                named_in_file: self.file_number.wrapping_sub(1),
            }
        });
        if thread.named_in_file != self.file_number {
            thread.named_in_file = self.file_number;
            if let Some(comm) = &thread.comm {
                put_comm(out, tgid, tid, comm.as_bytes(), time_ns);
            }
        }
    }

    /// Appends the exit of a thread, and removes the thread, since its TID can be reused from now on.
    /// `comm` is its name at the exit.
    pub(super) fn remove_exited(
        &mut self,
        tgid: u32,
        tid: u32,
        comm: &[u8],
        time_ns: u64,
        out: &mut Vec<u8>,
    ) {
        // They are only left if the thread had no recorded event.
        self.early_thread_names.remove(&(tgid, tid));
        self.early_vm_names.remove(&tid);
        let Some(mut thread) = self.known.remove(&tid) else {
            // The file has no events of the thread, unless `known` was cleared since.
            if self.has_evicted {
                put_exit(out, tgid, tid, time_ns);
            }
            return;
        };
        self.recent[tid as usize % RECENT_SLOTS] = NO_THREAD;
        if thread.comm.is_none() {
            // It exited before its name could be read. Give the name a time before its first event, so
            // that readers, which sort records by time, use it for all events.
            put_comm(out, tgid, tid, comm, thread.first_ns.saturating_sub(1));
            thread.comm = Some(String::from_utf8_lossy(comm).into());
        }
        put_exit(out, tgid, tid, time_ns);
        if self.exited.len() == MAX_EXITED {
            self.exited.pop_front();
        }
        self.exited.push_back((time_ns, tid, thread));
    }

    /// Removes the threads that exited before `time_ns`.
    pub(super) fn remove_exited_before(&mut self, time_ns: u64) {
        while self.exited.front().is_some_and(|it| it.0 < time_ns) {
            self.exited.pop_front();
        }
    }

    /// Appends all names, also those of exited threads, with the time `time_ns`. The flight recorder
    /// puts them before the events of a file.
    pub(super) fn put_all_names(&self, time_ns: u64, out: &mut Vec<u8>) {
        let exited = self.exited.iter().map(|(_, tid, thread)| (tid, thread));
        for (tid, thread) in exited.chain(&self.known) {
            if let Some(comm) = &thread.comm {
                put_comm(out, thread.tgid, *tid, comm.as_bytes(), time_ns);
            }
        }
    }

    /// Returns the names of the VMs as the contents of the feature VM_NAMES.
    pub(super) fn vm_names(&self) -> Vec<u8> {
        self.names.to_lines().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model, recording::decode};

    #[test]
    fn reused_tid_is_another_thread() {
        let mut threads =
            ThreadTable::with_comm_lookup(|tgid, tid, _| Some(format!("{tgid}/{tid}")));
        let mut out = Vec::new();
        for tgid in [7, 7, 9, 9] {
            threads.put_names_once(tgid, 8, 100, &mut out);
        }
        let mut names = Vec::new();
        let mut position = 0;
        while let Some(record) = decode::record_at(&out, position).filter(|it| !it.is_empty()) {
            names.extend(decode::comm(record).map(|(thread, name)| (thread, name.into_string())));
            position += record.len();
        }
        let name = |tgid, tid| (model::ThreadId { tgid, tid }, format!("{tgid}/{tid}"));
        assert_eq!(names, [name(7, 8), name(7, 7), name(9, 8), name(9, 9)]);
    }
}
