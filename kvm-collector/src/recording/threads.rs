//! Which threads a file's events are of, and what they are called.

use std::collections::{HashMap, VecDeque};

use crate::{
    host::{self, VmNames},
    model::{self, capacity::MOST_NAMED},
};

use super::{
    abi::{RECORD_HEADER, record},
    encode::{SAMPLE_ID_BYTES, put_sample_id},
    head::put_header,
};

/// Threads whose last event was looked at lately, by the low bits of their number.
const RECENT: usize = 1 << 12;

/// No process and no thread.
const NOBODY: (u32, u32) = (u32::MAX, u32::MAX);

/// Ended threads that are remembered at most.
const MOST_ENDED: usize = 1 << 14;

/// Asks what a process's thread was called at a time.
type Ask = fn(u32, u32, u64) -> Option<String>;

/// The threads seen. A record says a thread's name before its first event in each file.
#[derive(Debug)]
pub(super) struct Threads {
    recent: Box<[(u32, u32)]>,
    known: HashMap<u32, Thread>,
    /// There were so many that they were forgotten, once.
    has_forgotten: bool,
    /// Threads that have ended, for files that begin with what was before: when, who, what.
    ended: VecDeque<(u64, u32, Thread)>,
    /// Files begun so far.
    file: u32,
    names: VmNames,
    /// Names that were read before the first event of the thread, or of the process, is here.
    read_threads: HashMap<(u32, u32), Box<str>>,
    read_vms: HashMap<u32, String>,
    ask: Ask,
}

#[derive(Debug, Clone)]
struct Thread {
    tgid: u32,
    comm: Option<Box<str>>,
    /// Time of its first event.
    first_ns: u64,
    /// The last file that its name is in.
    file: u32,
}

impl Default for Threads {
    fn default() -> Self {
        Self::asking(host::process::comm_at)
    }
}

impl Threads {
    pub(super) fn asking(ask: Ask) -> Self {
        Self {
            recent: vec![NOBODY; RECENT].into_boxed_slice(),
            known: HashMap::new(),
            has_forgotten: false,
            ended: VecDeque::new(),
            file: 0,
            names: VmNames::default(),
            read_threads: HashMap::new(),
            read_vms: HashMap::new(),
            ask,
        }
    }

    /// Learns the name of a thread that has had no event yet.
    pub(super) fn learn_thread(&mut self, thread: model::Thread, name: String) {
        let key = (thread.tgid, thread.tid);
        self.read_threads.insert(key, name.into_boxed_str());
    }

    /// Learns the name of a VM that has had no event yet.
    pub(super) fn learn_vm(&mut self, tgid: u32, name: String) {
        self.read_vms.insert(tgid, name);
    }

    /// A new file begins: names have to be said again.
    pub(super) fn new_file(&mut self) {
        self.file += 1;
        self.recent.fill(NOBODY);
    }

    /// There is an event of this thread. This is called for each event, and does nearly nothing for nearly all.
    #[inline]
    pub(super) fn seen(&mut self, tgid: u32, tid: u32, time_ns: u64, out: &mut Vec<u8>) {
        let recent = &mut self.recent[tid as usize % RECENT];
        if *recent == (tgid, tid) {
            return;
        }
        *recent = (tgid, tid);
        self.say(tgid, tid, time_ns, out);
        if tgid != tid {
            // Its process' name is what its VM may go by.
            self.say(tgid, tgid, time_ns, out);
        }
    }

    fn say(&mut self, tgid: u32, tid: u32, time_ns: u64, out: &mut Vec<u8>) {
        // The end of a thread may have been lost, and its number be another process's thread's.
        if self.known.get(&tid).is_some_and(|it| it.tgid != tgid) {
            self.known.remove(&tid);
        } else if self.known.len() >= MOST_NAMED && !self.known.contains_key(&tid) {
            // Those that live are asked, and written, again.
            self.known.clear();
            self.has_forgotten = true;
        }
        let thread = self.known.entry(tid).or_insert_with(|| {
            if tid == tgid && tid != 0 {
                match self.read_vms.remove(&tgid) {
                    Some(name) => self.names.learn_name(tgid, name),
                    None => {
                        self.names.learn(tgid, None);
                    }
                }
            }
            let read = self.read_threads.remove(&(tgid, tid));
            Thread {
                tgid,
                comm: read.or_else(|| (self.ask)(tgid, tid, time_ns).map(String::into_boxed_str)),
                first_ns: time_ns,
                file: self.file.wrapping_sub(1),
            }
        });
        if thread.file != self.file {
            thread.file = self.file;
            if let Some(comm) = &thread.comm {
                put_comm(out, tgid, tid, comm.as_bytes(), time_ns);
            }
        }
    }

    /// The thread has ended; its number may be another's from here on.
    pub(super) fn ended(
        &mut self,
        tgid: u32,
        tid: u32,
        comm: &[u8],
        time_ns: u64,
        out: &mut Vec<u8>,
    ) {
        // Without an event that is recorded, it had no use.
        self.read_threads.remove(&(tgid, tid));
        self.read_vms.remove(&tid);
        let Some(mut thread) = self.known.remove(&tid) else {
            // Nothing of it is in the file, unless it was forgotten.
            if self.has_forgotten {
                put_exit(out, tgid, tid, time_ns);
            }
            return;
        };
        self.recent[tid as usize % RECENT] = NOBODY;
        if thread.comm.is_none() {
            // It had ended before it could be asked. Its events are not given out yet by who reads them in order.
            put_comm(out, tgid, tid, comm, thread.first_ns.saturating_sub(1));
            thread.comm = Some(String::from_utf8_lossy(comm).into());
        }
        put_exit(out, tgid, tid, time_ns);
        if self.ended.len() == MOST_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((time_ns, tid, thread));
    }

    /// Forgets who ended before a time.
    pub(super) fn forget_before(&mut self, time_ns: u64) {
        while self.ended.front().is_some_and(|it| it.0 < time_ns) {
            self.ended.pop_front();
        }
    }

    /// Says all names there are, as of a time before all events: for a file that begins with what was before.
    pub(super) fn say_all(&self, time_ns: u64, out: &mut Vec<u8>) {
        let ended = self.ended.iter().map(|(_, tid, thread)| (tid, thread));
        for (tid, thread) in ended.chain(&self.known) {
            if let Some(comm) = &thread.comm {
                put_comm(out, thread.tgid, *tid, comm.as_bytes(), time_ns);
            }
        }
    }

    /// The VMs' names, as they are in a file.
    pub(super) fn vm_names(&self) -> Vec<u8> {
        self.names.to_lines().into_bytes()
    }
}

/// The length of a thread's name at most, with its end (`TASK_COMM_LEN`).
const COMM_BYTES: usize = 16;

fn put_comm(out: &mut Vec<u8>, tgid: u32, tid: u32, comm: &[u8], time_ns: u64) {
    let comm = &comm[..comm.len().min(COMM_BYTES - 1)];
    let padded = (comm.len() + 1).next_multiple_of(8);
    let size = RECORD_HEADER + 8 + padded + SAMPLE_ID_BYTES;
    put_header(out, record::COMM, 0, size);
    out.extend_from_slice(&tgid.to_ne_bytes());
    out.extend_from_slice(&tid.to_ne_bytes());
    out.extend_from_slice(comm);
    out.resize(out.len() + padded - comm.len(), 0);
    put_sample_id(out, (tgid, tid), time_ns, 0, 1);
}

fn put_exit(out: &mut Vec<u8>, tgid: u32, tid: u32, time_ns: u64) {
    put_header(out, record::EXIT, 0, RECORD_HEADER + 24 + SAMPLE_ID_BYTES);
    // Who its parent was is not known, and does not matter.
    for number in [tgid, tgid, tid, tid] {
        out.extend_from_slice(&number.to_ne_bytes());
    }
    out.extend_from_slice(&time_ns.to_ne_bytes());
    put_sample_id(out, (tgid, tid), time_ns, 0, 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model, recording::kind};

    #[test]
    fn a_number_of_another_process_is_another_thread() {
        let mut threads = Threads::asking(|tgid, tid, _| Some(format!("{tgid}/{tid}")));
        let mut out = Vec::new();
        for tgid in [7, 7, 9, 9] {
            threads.seen(tgid, 8, 100, &mut out);
        }
        let mut names = Vec::new();
        let mut at = 0;
        while let Some(record) = kind::at(&out, at).filter(|it| !it.is_empty()) {
            names.extend(kind::comm(record).map(|(thread, name)| (thread, name.into_string())));
            at += record.len();
        }
        let name = |tgid, tid| (model::Thread { tgid, tid }, format!("{tgid}/{tid}"));
        assert_eq!(names, [name(7, 8), name(7, 7), name(9, 8), name(9, 9)]);
    }
}
