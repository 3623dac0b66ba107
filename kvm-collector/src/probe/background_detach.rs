//! Detaches programs in the background, so that the collector ends quickly.
//!
//! The kernel takes 30 to 75 ms to detach a classic tracepoint program, because it waits until no CPU can run it. Programs
//! are detached one after the other, so all events of KVM take 7 s. A background process does this instead. The programs
//! do nothing any more at that time.

use std::{
    ffi::{c_int, c_long},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use crate::host::descriptors::close_others;

/// A background process that holds descriptors of this process open, so that closing them here is quick. When this is
/// dropped, the background process closes them too, which detaches their programs.
///
/// The background process has no other descriptor of this process, so it holds no pipe, lock or socket open. It is not a
/// child of this process, and its end causes no signal here.
#[derive(Debug)]
pub(super) struct BackgroundDetach {
    /// The background process waits until this is closed.
    _end: OwnedFd,
}

impl BackgroundDetach {
    /// Starts the background process. Returns `None` if that fails; closing the descriptors takes long then.
    pub(super) fn begin(slow: &[OwnedFd]) -> Option<Self> {
        Self::fork(slow)
            .inspect_err(|error| log::debug!("cannot detach in the background: {error}"))
            .ok()
    }

    fn fork(slow: &[OwnedFd]) -> io::Result<Self> {
        let (wait, end) = pipe()?;
        // Sorted before the fork, because the child must not allocate memory.
        let mut kept: Vec<_> = slow.iter().map(|fd| fd.as_raw_fd()).collect();
        kept.push(wait.as_raw_fd());
        kept.sort_unstable();
        // SAFETY: the child only makes system calls, so the state of other threads does not matter.
        match unsafe { fork_without_signal() } {
            0 => {
                // SAFETY: this is the child.
                unsafe { start_background_process(&kept, wait.as_raw_fd()) }
            }
            -1 => Err(io::Error::last_os_error()),
            child => {
                reap(child);
                Ok(Self { _end: end })
            }
        }
    }
}

/// Runs in the child: closes all descriptors except `kept`, starts the background process as a child of its own, and ends.
/// So init becomes the parent of the background process.
///
/// # Safety
/// Call it only in a process that has just been forked. It only makes system calls.
unsafe fn start_background_process(kept: &[RawFd], wait: RawFd) -> ! {
    // SAFETY: these are system calls with numbers, a constant and one byte on the stack.
    unsafe {
        // Signals of the terminal do not reach a new session, and the working directory keeps no file system busy.
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        // Before this child ends, so that they are closed when its parent continues.
        close_others(kept);
        if fork_without_signal() == 0 {
            let mut byte = 0u8;
            libc::read(wait, (&raw mut byte).cast(), 1);
        }
        libc::_exit(0)
    }
}

/// Forks a child that causes no signal when it ends, so that it does not disturb a `wait` for any other child.
///
/// # Safety
/// The child may only make system calls, because another thread may have held any lock.
unsafe fn fork_without_signal() -> c_long {
    // SAFETY: `clone` without flags and without a new stack is a fork. Unlike `fork`, it runs no handlers.
    unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) }
}

/// Waits for a child of [`fork_without_signal`], which ends at once.
fn reap(child: c_long) {
    let Ok(child) = libc::pid_t::try_from(child) else {
        return;
    };
    // SAFETY: a null pointer means that the status is not returned.
    while unsafe { libc::waitpid(child, std::ptr::null_mut::<c_int>(), libc::__WALL) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: the array has space for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptors are new, and nothing else owns them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether the other end of a pipe is closed within a time.
    fn is_closed(reader: &OwnedFd, timeout_ms: c_int) -> bool {
        let mut poll = libc::pollfd {
            fd: reader.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the array has one open descriptor.
        let ready = unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
        ready == 1 && poll.revents & libc::POLLHUP != 0
    }

    /// Runs the checks in a process without other threads and children. Returns the number of the check that fails.
    fn check() -> Result<(), c_int> {
        let ensure = |holds: bool, code: c_int| if holds { Ok(()) } else { Err(code) };
        let (slow_reader, slow) = pipe().map_err(|_| 1)?;
        let (other_reader, other) = pipe().map_err(|_| 2)?;
        // There are closed descriptors above and below the kept ones.
        let (last_reader, last) = pipe().map_err(|_| 3)?;
        let slow = [slow];
        let background = BackgroundDetach::begin(&slow).ok_or(4)?;
        drop((other, last));
        ensure(is_closed(&other_reader, 0) && is_closed(&last_reader, 0), 5)?;
        drop(slow);
        ensure(!is_closed(&slow_reader, 0), 6)?;
        // SAFETY: waits for any child. A null pointer means that the status is not returned.
        let child = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) };
        let error = io::Error::last_os_error().raw_os_error();
        ensure(child == -1 && error == Some(libc::ECHILD), 7)?;
        drop(background);
        ensure(is_closed(&slow_reader, 10_000), 8)
    }

    #[test]
    fn the_background_process_holds_only_slow_descriptors_and_is_no_child() {
        // SAFETY: the child ends without returning to the test harness. It may allocate memory, because the C library's
        // `fork` permits that.
        match unsafe { libc::fork() } {
            0 => {
                let code = check().err().unwrap_or(0);
                // SAFETY: this only ends the child.
                unsafe { libc::_exit(code) }
            }
            child => {
                let mut status = 0;
                // SAFETY: `status` has space for the child's status.
                let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
                assert_eq!(ended, child);
                assert!(libc::WIFEXITED(status), "{status:#x}");
                assert_eq!(libc::WEXITSTATUS(status), 0, "number of the failed check");
            }
        }
    }
}
