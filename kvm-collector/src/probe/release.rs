//! Ending quickly.
//!
//! The kernel takes 30 to 75 ms to detach a classic tracepoint program, one after the other: it waits
//! until no CPU can be in it. For all of KVM's events that is 7 s, in which a user would wait for
//! the prompt. So the programs are told to do nothing more, and closing them is left to a child
//! process that nobody waits for.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Keeps all descriptors of this process open elsewhere, so that closing them here is quick. When
/// this is dropped, the child closes them too, and pays.
#[derive(Debug)]
pub(super) struct Release {
    /// The child waits until this closes.
    _until: OwnedFd,
}

impl Release {
    /// Starts the child; `None` if there can be none, and closing takes its time.
    pub(super) fn begin() -> Option<Self> {
        let (wait, until) = pipe()
            .inspect_err(|error| log::debug!("detaching takes longer: {error}"))
            .ok()?;
        // SAFETY: the child only makes system calls before it ends, so it does not matter what other
        // threads were doing.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: system calls on numbers and one byte of our own. In a session of its own, so
                // that a terminal's signals do not reach it; without the standard descriptors, so
                // that whoever reads our output does not wait for it.
                unsafe {
                    libc::setsid();
                    libc::close_range(0, 2, 0);
                    libc::close(until.as_raw_fd());
                    let mut byte = 0u8;
                    libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1);
                    libc::_exit(0)
                }
            }
            -1 => {
                log::debug!("detaching takes longer: {}", io::Error::last_os_error());
                None
            }
            _ => Some(Self { _until: until }),
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new descriptors, which nobody else has.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}
