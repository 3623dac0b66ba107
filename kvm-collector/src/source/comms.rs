//! Names of threads, as the kernel knows them.

use std::collections::HashMap;

use crate::{
    host,
    model::{Thread, capacity::MOST_NAMED},
};

/// Names by thread.
///
/// The name is read together with the thread's first event and learned here, or else looked up when that event is passed
/// on. That may be after the thread has ended; then the record of its end says what its name was.
///
/// The record of an end may be lost, and the thread's number be used again. So a name is of a process's thread, and of
/// one that had started when the event happened.
#[derive(Debug, Default)]
pub(super) struct Comms {
    known: HashMap<u32, ThreadName>,
    ended: HashMap<u32, ThreadName>,
}

#[derive(Debug, Clone)]
struct ThreadName {
    tgid: u32,
    name: Box<str>,
}

impl Comms {
    /// The name of an event's thread; `<...>`, as ftrace has it, if nobody can tell.
    pub(super) fn get(&mut self, thread: Thread, time_ns: u64) -> &str {
        let Thread { tgid, tid } = thread;
        if self.known.len() >= MOST_NAMED && !self.known.contains_key(&tid) {
            // Those that live are asked again.
            self.known.clear();
        }
        let ended = &self.ended;
        let ask = || {
            let name = host::process::comm_at(tgid, tid, time_ns).map(String::into_boxed_str);
            let ended = ended.get(&tid).filter(|it| it.tgid == tgid);
            let name = name.or_else(|| ended.map(|it| it.name.clone()));
            ThreadName {
                tgid,
                name: name.unwrap_or_else(|| if tid == 0 { "<idle>" } else { "<...>" }.into()),
            }
        };
        let known = self.known.entry(tid).or_insert_with(ask);
        if known.tgid != tgid {
            *known = ask();
        }
        &known.name
    }

    /// Learns the name of a thread that was read elsewhere.
    pub(super) fn learn(&mut self, thread: Thread, name: String) {
        let name = ThreadName {
            tgid: thread.tgid,
            name: name.into_boxed_str(),
        };
        self.known.insert(thread.tid, name);
    }

    /// The thread has ended. Its events may still be asked for.
    pub(super) fn ended(&mut self, thread: Thread, comm: &[u8]) {
        let name = ThreadName {
            tgid: thread.tgid,
            name: String::from_utf8_lossy(comm).into(),
        };
        self.ended.insert(thread.tid, name);
    }

    /// All events of the ended thread are through; its number may be another thread's from here on.
    pub(super) fn forget(&mut self, tid: u32) {
        self.known.remove(&tid);
        self.ended.remove(&tid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its number is above any real thread's (`PID_MAX_LIMIT` is 2^22).
    const NOBODY: Thread = Thread {
        tgid: 1 << 30,
        tid: (1 << 30) + 1,
    };

    fn own() -> Thread {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        Thread {
            tgid: std::process::id(),
            tid: tid.unsigned_abs(),
        }
    }

    #[test]
    fn a_name_outlives_its_thread_until_it_is_forgotten() {
        let mut comms = Comms::default();
        comms.ended(NOBODY, b"CPU 0/KVM");
        assert_eq!(comms.get(NOBODY, 1), "CPU 0/KVM");
        comms.forget(NOBODY.tid);
        assert_eq!(comms.get(NOBODY, 1), "<...>");
    }

    #[test]
    fn a_name_read_elsewhere_holds_until_it_is_forgotten() {
        let mut comms = Comms::default();
        comms.learn(NOBODY, "CPU 1/KVM".into());
        assert_eq!(comms.get(NOBODY, 1), "CPU 1/KVM");
        comms.forget(NOBODY.tid);
        assert_eq!(comms.get(NOBODY, 1), "<...>");
    }

    #[test]
    fn a_living_thread_is_asked() {
        let (own, now_ns) = (own(), host::clock::monotonic_ns());
        let name = host::process::comm_at(own.tgid, own.tid, now_ns);
        assert!(name.is_some());
        assert_eq!(Some(Comms::default().get(own, now_ns).to_owned()), name);
    }

    #[test]
    fn a_number_that_is_used_again_has_another_name() {
        let own = own();
        let mut comms = Comms::default();
        // This thread had not started then: the event is of the one before.
        comms.ended(own, b"CPU 0/KVM");
        assert_eq!(comms.get(own, 1), "CPU 0/KVM");
        // Another process's thread: the end of the one before was not seen.
        let mut comms = Comms::default();
        comms.ended(NOBODY, b"CPU 0/KVM");
        assert_eq!(comms.get(NOBODY, 1), "CPU 0/KVM");
        let again = Thread {
            tgid: NOBODY.tgid - 1,
            ..NOBODY
        };
        assert_eq!(comms.get(again, 2), "<...>");
    }
}
