//! Names of threads (comms) for live events.

use std::collections::HashMap;

use crate::{
    host,
    model::{ThreadId, capacity::MAX_KNOWN_TASKS},
};

/// Names of threads.
///
/// The name of a thread is read together with its first event and stored with [`ThreadNames::set`],
/// or looked up in `/proc` when the event is emitted. If the thread has ended by then, its name is
/// in the record of its end.
///
/// The record of an end may be lost, and the kernel may reuse the thread's number. A name is
/// therefore valid only for a thread of the same process that had started when the event happened.
#[derive(Debug, Default)]
pub(super) struct ThreadNames {
    known: HashMap<u32, ThreadName>,
    ended: HashMap<u32, ThreadName>,
}

#[derive(Debug, Clone)]
struct ThreadName {
    tgid: u32,
    name: Box<str>,
}

impl ThreadNames {
    /// Returns the name of an event's thread; `<...>`, as in ftrace, if it is unknown.
    pub(super) fn get(&mut self, thread: ThreadId, time_ns: u64) -> &str {
        let ThreadId { tgid, tid } = thread;
        if self.known.len() >= MAX_KNOWN_TASKS && !self.known.contains_key(&tid) {
            // The names of running threads can be looked up again.
            self.known.clear();
        }
        let ended = &self.ended;
        let look_up = || {
            let name = host::process::comm_at(tgid, tid, time_ns).map(String::into_boxed_str);
            let ended = ended.get(&tid).filter(|it| it.tgid == tgid);
            let name = name.or_else(|| ended.map(|it| it.name.clone()));
            ThreadName {
                tgid,
                name: name.unwrap_or_else(|| if tid == 0 { "<idle>" } else { "<...>" }.into()),
            }
        };
        let known = self.known.entry(tid).or_insert_with(look_up);
        if known.tgid != tgid {
            *known = look_up();
        }
        &known.name
    }

    /// Stores the name of a thread.
    pub(super) fn set(&mut self, thread: ThreadId, name: String) {
        let name = ThreadName {
            tgid: thread.tgid,
            name: name.into_boxed_str(),
        };
        self.known.insert(thread.tid, name);
    }

    /// Stores the name of a thread that has ended, for its events that have not been emitted yet.
    pub(super) fn set_ended(&mut self, thread: ThreadId, comm: &[u8]) {
        let name = ThreadName {
            tgid: thread.tgid,
            name: String::from_utf8_lossy(comm).into(),
        };
        self.ended.insert(thread.tid, name);
    }

    /// Removes a thread after its last event: the kernel may reuse its number.
    pub(super) fn remove(&mut self, tid: u32) {
        self.known.remove(&tid);
        self.ended.remove(&tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that does not exist: its number is above `PID_MAX_LIMIT`, which is 2^22.
    const NONEXISTENT: ThreadId = ThreadId {
        tgid: 1 << 30,
        tid: (1 << 30) + 1,
    };

    fn current_thread() -> ThreadId {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        ThreadId {
            tgid: std::process::id(),
            tid: tid.unsigned_abs(),
        }
    }

    #[test]
    fn name_of_an_ended_thread_holds_until_it_is_removed() {
        let mut names = ThreadNames::default();
        names.set_ended(NONEXISTENT, b"CPU 0/KVM");
        assert_eq!(names.get(NONEXISTENT, 1), "CPU 0/KVM");
        names.remove(NONEXISTENT.tid);
        assert_eq!(names.get(NONEXISTENT, 1), "<...>");
    }

    #[test]
    fn stored_name_holds_until_it_is_removed() {
        let mut names = ThreadNames::default();
        names.set(NONEXISTENT, "CPU 1/KVM".into());
        assert_eq!(names.get(NONEXISTENT, 1), "CPU 1/KVM");
        names.remove(NONEXISTENT.tid);
        assert_eq!(names.get(NONEXISTENT, 1), "<...>");
    }

    #[test]
    fn name_of_a_running_thread_is_looked_up() {
        let (own, now_ns) = (current_thread(), host::clock::monotonic_ns());
        let name = host::process::comm_at(own.tgid, own.tid, now_ns);
        assert!(name.is_some());
        assert_eq!(
            Some(ThreadNames::default().get(own, now_ns).to_owned()),
            name
        );
    }

    #[test]
    fn reused_thread_number_has_another_name() {
        let own = current_thread();
        let mut names = ThreadNames::default();
        // This thread had not started at time 1: the event belongs to an earlier thread.
        names.set_ended(own, b"CPU 0/KVM");
        assert_eq!(names.get(own, 1), "CPU 0/KVM");
        // A thread of another process: the end of the earlier thread was not seen.
        let mut names = ThreadNames::default();
        names.set_ended(NONEXISTENT, b"CPU 0/KVM");
        assert_eq!(names.get(NONEXISTENT, 1), "CPU 0/KVM");
        let reused = ThreadId {
            tgid: NONEXISTENT.tgid - 1,
            ..NONEXISTENT
        };
        assert_eq!(names.get(reused, 2), "<...>");
    }
}
