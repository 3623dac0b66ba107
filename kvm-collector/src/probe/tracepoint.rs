//! Attaching classic tracepoint programs.
//!
//! A program is attached to a tracepoint by way of a perf event. It runs whether that event is enabled or
//! not. An enabled one costs the most of all, as the kernel then prepares a sample for each event,
//! which nobody reads; so it never is.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `PERF_TYPE_TRACEPOINT` (include/uapi/linux/perf_event.h).
const PERF_TYPE_TRACEPOINT: u32 = 2;
/// `PERF_ATTR_SIZE_VER0`, which every kernel takes.
const ATTR_BYTES: u32 = 64;
/// The first of the attribute's flags: not enabled.
const DISABLED: u64 = 1;
/// `PERF_FLAG_FD_CLOEXEC`.
const FD_CLOEXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_SET_BPF`: `_IOW('$', 8, __u32)`.
const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// The first 64 bytes of `struct perf_event_attr`.
#[repr(C)]
#[derive(Default)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup: u32,
    breakpoint_type: u32,
    breakpoint: u64,
}

/// Attaches a loaded program to the tracepoint of an id. It is detached when the descriptor is closed.
///
/// # Errors
/// As the kernel says: EACCES or EPERM without the privilege, EINVAL for an id that is none (any more).
pub(super) fn attach(program: BorrowedFd<'_>, id: u16) -> io::Result<OwnedFd> {
    let attr = Attr {
        kind: PERF_TYPE_TRACEPOINT,
        size: ATTR_BYTES,
        config: u64::from(id),
        flags: DISABLED,
        ..Attr::default()
    };
    let event = open(&attr)?;
    // SAFETY: an ioctl with a number on a descriptor of our own.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_BPF as _, program.as_raw_fd()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(event)
}

/// Opens an event on some CPU that is online. Which one does not matter: the program runs on all.
fn open(attr: &Attr) -> io::Result<OwnedFd> {
    const { assert!(size_of::<Attr>() == ATTR_BYTES as usize) };
    // SAFETY: a system call without arguments.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }.max(1);
    let mut error = io::Error::from_raw_os_error(libc::ENODEV);
    for cpu in 0..cpus {
        const ALL_PROCESSES: libc::pid_t = -1;
        const NO_GROUP: libc::c_int = -1;
        // SAFETY: the attribute is `size` bytes long and only read.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                std::ptr::from_ref(attr),
                ALL_PROCESSES,
                cpu,
                NO_GROUP,
                FD_CLOEXEC,
            )
        };
        if let Ok(fd @ 0..) = i32::try_from(fd) {
            // SAFETY: a new descriptor that nobody else has.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENODEV) {
            break;
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_is_none_is_an_error() {
        let program = std::fs::File::open("/dev/null").expect("it is everywhere");
        let error =
            attach(std::os::fd::AsFd::as_fd(&program), u16::MAX).expect_err("no such event");
        assert!(error.raw_os_error().is_some());
    }
}
