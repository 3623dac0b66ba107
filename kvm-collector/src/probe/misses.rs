//! Events that the kernel did not run a program for.
//!
//! A tracepoint program does not run when another one is running on that CPU already, as happens
//! when an interrupt's tracepoint lands inside one. The kernel counts these since 6.7.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{programs::Program, util::KernelVersion};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

use super::{AttachedPrograms, barrier::bpf};

impl AttachedPrograms {
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
    // SAFETY: all bytes of both may be zero. A kernel whose structure is shorter leaves the rest zero.
    let (mut info, mut attr): (bpf_prog_info, bpf_attr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    attr.info.bpf_fd = u32::try_from(fd).map_err(io::Error::other)?;
    attr.info.info_len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.recursion_misses)
}
