//! The connection to the process that lists VMs.

use std::{
    io::{self, Read},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use super::{
    child,
    local::LocalLister,
    protocol::{Request, read_answer},
};

/// How long an answer may take. Reading the open files of 10 000 processes takes about a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of the process may take. It may be stopped.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// The process that lists VMs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    child: libc::pid_t,
    /// Why there are no more answers. After a failure, an answer could belong to an earlier request.
    failure: Option<String>,
}

impl Connection {
    /// Starts the process.
    pub(super) fn start(lister: LocalLister) -> io::Result<Self> {
        let (socket, end_of_child) = UnixStream::pair()?;
        // Now, because the system calls of a sandbox may not include this.
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            socket,
            child: child::start(end_of_child, lister)?,
            failure: None,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.unsigned_abs()
    }

    /// Sends a request and waits for the answer.
    pub(super) fn request<T: DeserializeOwned>(&mut self, request: Request) -> io::Result<T> {
        if let Some(failure) = &self.failure {
            return Err(io::Error::other(failure.clone()));
        }
        match self.exchange(request) {
            Ok(answer) => answer.map_err(io::Error::other),
            Err(error) => {
                let text = self.describe(&error);
                self.failure = Some(text.clone());
                Err(io::Error::new(error.kind(), text))
            }
        }
    }

    /// Asks the process to end, and waits a moment for it: a container may have no process that reaps it later.
    pub(super) fn end(&self) {
        // The process ends when the socket is closed.
        let _ = self.socket.shutdown(Shutdown::Both);
        let begin = Instant::now();
        // SAFETY: a system call with numbers. Nothing else waits for this child. A null pointer means that the status is not
        // returned.
        while unsafe { libc::waitpid(self.child, std::ptr::null_mut(), libc::WNOHANG) } == 0
            && begin.elapsed() < END_TIMEOUT
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn exchange<T: DeserializeOwned>(&self, request: Request) -> io::Result<Result<T, String>> {
        request.write(&mut &self.socket)?;
        read_answer(&mut Limited {
            socket: &self.socket,
            begin: Instant::now(),
        })
    }

    fn describe(&self, error: &io::Error) -> String {
        let process = format!("the process that lists VMs (pid {})", self.child);
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => format!("{process} has ended"),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                format!("{process} did not answer within {} s", TIMEOUT.as_secs())
            }
            io::ErrorKind::InvalidData => format!("{process} gave an invalid answer: {error}"),
            _ => format!("cannot reach {process}: {error}"),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: system calls with numbers. Nothing else waits for this child, so its id is not reused. A null pointer
        // means that the status is not returned.
        unsafe {
            libc::kill(self.child, libc::SIGKILL);
            libc::waitpid(self.child, std::ptr::null_mut(), 0);
        }
    }
}

/// Reads from a socket until the timeout has passed since the request, also if bytes arrive slowly.
struct Limited<'a> {
    socket: &'a UnixStream,
    begin: Instant,
}

impl Read for Limited<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.begin.elapsed() > TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.read(bytes)
    }
}
