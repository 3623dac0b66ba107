//! Names of threads, as the kernel knows them.

use std::collections::HashMap;

use crate::host;

/// Names by thread. A thread is asked for its name when its first event is seen.
#[derive(Debug, Default)]
pub struct Comms {
    known: HashMap<u32, Box<str>>,
}

impl Comms {
    /// The thread's name; `<...>`, as ftrace has it, if it had ended before it could be asked.
    pub fn get(&mut self, tid: u32) -> &str {
        self.known.entry(tid).or_insert_with(|| {
            host::process::comm(tid)
                .unwrap_or_else(|| if tid == 0 { "<idle>" } else { "<...>" }.into())
                .into()
        })
    }
}
