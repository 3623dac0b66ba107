//! Names of threads, as the kernel knows them.

use std::{collections::HashMap, fs};

/// Names by thread. A thread is asked for its name when its first event is seen.
#[derive(Debug, Default)]
pub struct Comms {
    known: HashMap<u32, Box<str>>,
}

impl Comms {
    /// The thread's name; `<...>`, as ftrace has it, if it had ended before it could be asked.
    pub fn get(&mut self, tid: u32) -> &str {
        self.known.entry(tid).or_insert_with(|| {
            // Also for a thread that is not its process's first, `/proc/TID` is there, though not
            // listed.
            fs::read_to_string(format!("/proc/{tid}/comm"))
                .map(|comm| comm.trim_end_matches('\n').into())
                .unwrap_or_else(|_| {
                    if tid == 0 {
                        "<idle>".into()
                    } else {
                        "<...>".into()
                    }
                })
        })
    }
}
