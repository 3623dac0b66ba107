//! Events that the kernel did not run a program for.
//!
//! A tracepoint program does not run when another one is running on that CPU already, as happens
//! when an interrupt's tracepoint lands inside one. The kernel counts these since 6.7.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{programs::Program, util::KernelVersion};

use super::Attached;

/// `BPF_OBJ_GET_INFO_BY_FD` (include/uapi/linux/bpf.h).
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// Offset of `recursion_misses` in `struct bpf_prog_info`, and the length up to its end.
const MISSES_OFFSET: usize = 208;
const INFO_BYTES: usize = MISSES_OFFSET + 8;

/// `struct { ... } info` of `union bpf_attr`.
#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

impl Attached {
    /// Events that ran no program, over all attached programs. `None` where the kernel does not count them: classic
    /// tracepoint programs before Linux 6.7 (`trace_call_bpf`, kernel/trace/bpf_trace.c), or where it does not say.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        let has_classic = self
            .programs
            .iter()
            .any(|it| matches!(self.ebpf.program(&it.name), Some(Program::TracePoint(_))));
        if has_classic && !counts_classic_misses() {
            return None;
        }
        let mut missed = 0;
        for program in &self.programs {
            let Some(Ok(fd)) = self.ebpf.program(&program.name).map(|program| program.fd()) else {
                continue;
            };
            missed += recursion_misses(fd.as_fd().as_raw_fd()).ok()?;
        }
        Some(missed)
    }
}

/// No file says so, and the number is 0 in any case: the release is all there is to go by.
fn counts_classic_misses() -> bool {
    KernelVersion::current().is_ok_and(|it| it >= KernelVersion::new(6, 7, 0))
}

fn recursion_misses(fd: libc::c_int) -> io::Result<u64> {
    let mut info = [0u64; INFO_BYTES / 8];
    let mut attr = InfoAttr {
        bpf_fd: u32::try_from(fd).map_err(io::Error::other)?,
        info_len: u32::try_from(INFO_BYTES).map_err(io::Error::other)?,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the attribute names `info_len` writable bytes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw mut attr,
            size_of::<InfoAttr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // A kernel whose structure is shorter leaves the rest zero.
    Ok(info[MISSES_OFFSET / 8])
}
