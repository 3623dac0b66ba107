//! Ending quickly.
//!
//! The kernel takes 30 to 75 ms to detach a classic tracepoint program, one after the other: it waits
//! until no CPU can be in it. For all of KVM's events that is 7 s, in which a user would wait for
//! the prompt. So the programs are told to do nothing more, and closing them is left to a process
//! that nobody waits for.

use std::{
    ffi::{c_int, c_long, c_uint},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

/// Keeps some descriptors of this process open in another one, so that closing them here is quick.
/// When this is dropped, the other process closes them too, and pays.
///
/// The other process has no other descriptor of this one: whoever reads what this one wrote, or waits
/// for a lock or a socket of it, does not wait for the other. It is nobody's child that has to be
/// waited for, and reports its end to nobody here.
#[derive(Debug)]
pub(super) struct Release {
    /// The other process waits until this closes.
    _until: OwnedFd,
}

impl Release {
    /// Starts the process; `None` if there can be none, and closing takes its time.
    pub(super) fn begin(slow: &[OwnedFd]) -> Option<Self> {
        Self::fork(slow)
            .inspect_err(|error| log::debug!("detaching takes longer: {error}"))
            .ok()
    }

    fn fork(slow: &[OwnedFd]) -> io::Result<Self> {
        let (wait, until) = pipe()?;
        // Sorted before the fork: after it, no memory may be allocated.
        let mut kept: Vec<_> = slow.iter().map(|it| it.as_raw_fd()).collect();
        kept.push(wait.as_raw_fd());
        kept.sort_unstable();
        // SAFETY: the child only makes system calls before it ends, so it does not matter what other threads were doing.
        match unsafe { fork_silently() } {
            0 => {
                // SAFETY: as above.
                unsafe { detach(&kept, wait.as_raw_fd()) }
            }
            -1 => Err(io::Error::last_os_error()),
            child => {
                reap(child);
                Ok(Self { _until: until })
            }
        }
    }
}

/// What the child does: closes all descriptors but some, leaves the rest to a child of its own, and ends. So that one's
/// parent is the machine's first process, which takes note of its end.
///
/// # Safety
/// For a process that has just been forked. It makes system calls only.
unsafe fn detach(kept: &[RawFd], wait: RawFd) -> ! {
    // SAFETY: system calls on numbers, a constant and one byte of our own.
    unsafe {
        // A terminal's signals do not reach a session of its own; its directory does not keep a file system mounted.
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        // Before this child ends, so that all is closed when its parent goes on.
        close_others(kept);
        if fork_silently() == 0 {
            let mut byte = 0u8;
            libc::read(wait, (&raw mut byte).cast(), 1);
        }
        libc::_exit(0)
    }
}

/// Closes all descriptors but these, which are sorted.
///
/// # Safety
/// Nothing else may use the others.
unsafe fn close_others(kept: &[RawFd]) {
    let close = |first: c_uint, last: c_uint| {
        if first <= last {
            // SAFETY: a system call on numbers; the caller promises that nobody needs these.
            unsafe { libc::close_range(first, last, 0) };
        }
    };
    let mut first = 0;
    for fd in kept.iter().map(|fd| fd.cast_unsigned()) {
        if let Some(last) = fd.checked_sub(1) {
            close(first, last);
        }
        first = fd.saturating_add(1);
    }
    close(first, c_uint::MAX);
}

/// A fork whose child sends no signal when it ends: an application that waits for any child of its own does not see
/// this one.
///
/// # Safety
/// The child may only make system calls: another thread may have held any lock.
unsafe fn fork_silently() -> c_long {
    // SAFETY: without flags and with no stack of its own, this is a fork. Unlike `fork`, it runs no handlers.
    unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) }
}

/// Waits for a child of [`fork_silently`], which ends at once.
fn reap(child: c_long) {
    let Ok(child) = libc::pid_t::try_from(child) else {
        return;
    };
    // SAFETY: nothing is asked of the child but that it has ended.
    while unsafe { libc::waitpid(child, std::ptr::null_mut::<c_int>(), libc::__WALL) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Is the other end of a pipe closed, or does it close within a time?
    fn ends(reader: &OwnedFd, timeout_ms: c_int) -> bool {
        let mut poll = libc::pollfd {
            fd: reader.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one descriptor, which is open.
        let ready = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
        ready == 1 && poll.revents & libc::POLLHUP != 0
    }

    /// What is expected, in a process that has no other threads and no other children.
    fn check() -> Result<(), c_int> {
        let holds = |holds: bool, code: c_int| if holds { Ok(()) } else { Err(code) };
        let (slow_reader, slow) = pipe().map_err(|_| 1)?;
        let (other_reader, other) = pipe().map_err(|_| 2)?;
        // Above and below those that are kept.
        let (last_reader, last) = pipe().map_err(|_| 3)?;
        let slow = [slow];
        let release = Release::begin(&slow).ok_or(4)?;
        drop((other, last));
        holds(ends(&other_reader, 0) && ends(&last_reader, 0), 5)?;
        drop(slow);
        holds(!ends(&slow_reader, 0), 6)?;
        // SAFETY: asks for any child, of whichever kind.
        let child = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) };
        let error = io::Error::last_os_error().raw_os_error();
        holds(child == -1 && error == Some(libc::ECHILD), 7)?;
        drop(release);
        holds(ends(&slow_reader, 10_000), 8)
    }

    #[test]
    fn only_what_is_slow_stays_open_and_nobody_has_to_wait_for_it() {
        // SAFETY: the child ends without returning to the test's harness. It allocates, which the C library allows
        // after its own `fork`.
        match unsafe { libc::fork() } {
            0 => {
                let code = check().err().unwrap_or(0);
                // SAFETY: ends the child.
                unsafe { libc::_exit(code) }
            }
            child => {
                let mut status = 0;
                // SAFETY: a child of our own, and room for its status.
                let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(ended, child);
                assert!(libc::WIFEXITED(status), "{status:#x}");
                assert_eq!(libc::WEXITSTATUS(status), 0, "the check that failed");
            }
        }
    }
}
