//! Attaches classic tracepoint programs.
//!
//! A program is attached to a tracepoint through a perf event, and runs even if that perf event is disabled. It is never
//! enabled, because the kernel would prepare a sample for each event, which costs more than the program.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `PERF_TYPE_TRACEPOINT` (include/uapi/linux/perf_event.h).
const PERF_TYPE_TRACEPOINT: u32 = 2;
/// `PERF_ATTR_SIZE_VER0`, which every kernel accepts.
const ATTR_BYTES: u32 = 64;
/// The flag `disabled` of the attribute.
const DISABLED: u64 = 1;
/// `PERF_FLAG_FD_CLOEXEC`.
const FD_CLOEXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_SET_BPF`: `_IOW('$', 8, __u32)`.
const IOC_SET_BPF: libc::c_ulong = 0x4004_2408;

/// The first 64 bytes of `struct perf_event_attr`.
#[repr(C)]
#[derive(Default)]
pub(super) struct Attr {
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

impl Attr {
    /// Returns the attribute of the tracepoint with this id, as an event that is enabled.
    pub(super) fn tracepoint(id: u16) -> Self {
        Self {
            kind: PERF_TYPE_TRACEPOINT,
            size: ATTR_BYTES,
            config: u64::from(id),
            ..Self::default()
        }
    }
}

/// Attaches a loaded program to the tracepoint with this id. It is detached when the descriptor is closed.
///
/// # Errors
/// The kernel's error: EACCES or EPERM without the privilege, EINVAL if there is no such tracepoint.
pub(super) fn attach(program: BorrowedFd<'_>, id: u16) -> io::Result<OwnedFd> {
    let attr = Attr {
        flags: DISABLED,
        ..Attr::tracepoint(id)
    };
    let event = open_on_any_cpu(&attr)?;
    // SAFETY: an ioctl with a number, on a descriptor that `event` owns.
    let result = unsafe { libc::ioctl(event.as_raw_fd(), IOC_SET_BPF as _, program.as_raw_fd()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(event)
}

/// Opens a perf event on any CPU that is online. The program runs on all CPUs anyway.
fn open_on_any_cpu(attr: &Attr) -> io::Result<OwnedFd> {
    const ALL_PROCESSES: libc::pid_t = -1;
    // SAFETY: a system call without arguments.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }.max(1);
    let mut error = io::Error::from_raw_os_error(libc::ENODEV);
    for cpu in 0..cpus {
        match open(attr, ALL_PROCESSES, cpu) {
            Err(no_cpu) if no_cpu.raw_os_error() == Some(libc::ENODEV) => error = no_cpu,
            result => return result,
        }
    }
    Err(error)
}

/// Opens a perf event of a thread or a CPU; -1 means all of them.
pub(super) fn open(attr: &Attr, thread: libc::pid_t, cpu: libc::c_long) -> io::Result<OwnedFd> {
    const { assert!(size_of::<Attr>() == ATTR_BYTES as usize) };
    const NO_GROUP: libc::c_int = -1;
    // SAFETY: the kernel only reads the attribute, which is `size` bytes long.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            std::ptr::from_ref(attr),
            thread,
            cpu,
            NO_GROUP,
            FD_CLOEXEC,
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the descriptor is new, and nothing else owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_is_an_error() {
        let program = std::fs::File::open("/dev/null").expect("/dev/null exists");
        let error =
            attach(std::os::fd::AsFd::as_fd(&program), u16::MAX).expect_err("no such event");
        assert!(error.raw_os_error().is_some());
    }
}
