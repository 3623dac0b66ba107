//! Counts the events of one thread without an eBPF program.

use std::{
    fs::File,
    io::{self, Read as _},
};

use super::tracepoint::{Attr, open};

/// A perf event that counts how often a tracepoint fires in one thread.
#[derive(Debug)]
pub struct ThreadCounter(File);

impl ThreadCounter {
    /// Starts to count the tracepoint with this id. The kernel looks for the thread in the pid namespace of this process.
    ///
    /// # Errors
    /// The kernel's error: EACCES or EPERM without the privilege, ESRCH if there is no such thread.
    pub fn start(id: u16, tid: u32) -> io::Result<Self> {
        const ANY_CPU: libc::c_long = -1;
        let thread = tid.try_into().map_err(io::Error::other)?;
        let event = open(&Attr::tracepoint(id), thread, ANY_CPU)?;
        Ok(Self(event.into()))
    }

    /// Reads the number of events since the start.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn read(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_does_not_exist_is_an_error() {
        // Thread ids are below 2^22.
        let error = ThreadCounter::start(1, 1 << 30).expect_err("no such thread");
        assert!(error.raw_os_error().is_some(), "{error}");
        assert!(ThreadCounter::start(1, u32::MAX).is_err());
    }
}
