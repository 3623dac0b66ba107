//! Names of threads, as the kernel knows them.

use std::collections::HashMap;

use crate::host;

/// Names by thread.
///
/// The name is read together with the thread's first event and learned here, or else looked up when that event is passed
/// on. That may be after the thread has ended; then the record of its end says what its name was.
#[derive(Debug, Default)]
pub(super) struct Comms {
    known: HashMap<u32, Box<str>>,
    ended: HashMap<u32, Box<str>>,
}

impl Comms {
    /// The thread's name; `<...>`, as ftrace has it, if nobody can tell.
    pub(super) fn get(&mut self, tid: u32) -> &str {
        let ended = &self.ended;
        self.known.entry(tid).or_insert_with(|| {
            let name = host::process::comm(tid).map(String::into_boxed_str);
            name.or_else(|| ended.get(&tid).cloned())
                .unwrap_or_else(|| if tid == 0 { "<idle>" } else { "<...>" }.into())
        })
    }

    /// Learns the name of a thread that was read elsewhere.
    pub(super) fn learn(&mut self, tid: u32, name: String) {
        self.known.insert(tid, name.into_boxed_str());
    }

    /// The thread has ended. Its events may still be asked for.
    pub(super) fn ended(&mut self, tid: u32, comm: &[u8]) {
        let comm = String::from_utf8_lossy(comm);
        self.ended.insert(tid, comm.into());
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

    /// Above any real thread's number (`PID_MAX_LIMIT` is 2^22).
    const NOBODY: u32 = 1 << 30;

    #[test]
    fn a_name_outlives_its_thread_until_it_is_forgotten() {
        let mut comms = Comms::default();
        comms.ended(NOBODY, b"CPU 0/KVM");
        assert_eq!(comms.get(NOBODY), "CPU 0/KVM");
        comms.forget(NOBODY);
        assert_eq!(comms.get(NOBODY), "<...>");
    }

    #[test]
    fn a_name_read_elsewhere_holds_until_it_is_forgotten() {
        let mut comms = Comms::default();
        comms.learn(NOBODY, "CPU 1/KVM".into());
        assert_eq!(comms.get(NOBODY), "CPU 1/KVM");
        comms.forget(NOBODY);
        assert_eq!(comms.get(NOBODY), "<...>");
    }

    #[test]
    fn a_living_thread_is_asked() {
        let own = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        assert_eq!(
            Some(Comms::default().get(own).to_owned()),
            host::process::comm(own)
        );
    }
}
