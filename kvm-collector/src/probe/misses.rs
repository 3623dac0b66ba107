//! Counts events for which the kernel did not run the program.
//!
//! The kernel skips a tracepoint program if another one is running on that CPU, for example if an interrupt with a
//! tracepoint occurs meanwhile. It counts these cases since 6.7.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{programs::Program, util::KernelVersion};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_prog_info};

use super::{AttachedPrograms, barrier::bpf};

impl AttachedPrograms {
    /// Returns the number of events for which a program was skipped, summed over all programs. `None` if the kernel does not
    /// count them for classic tracepoint programs (before Linux 6.7; `trace_call_bpf`, kernel/trace/bpf_trace.c), or if it
    /// does not report the count.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        let has_classic = self.programs.iter().any(|program| {
            matches!(
                self.ebpf.program(&program.name),
                Some(Program::TracePoint(_))
            )
        });
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

/// Returns whether the kernel counts skipped classic tracepoint programs. Only its version shows that: older kernels report 0.
fn counts_classic_misses() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 7, 0))
}

fn recursion_misses(fd: libc::c_int) -> io::Result<u64> {
    // SAFETY: all bytes of both may be zero. A kernel with a shorter structure leaves the rest zero.
    let (mut info, mut attr): (bpf_prog_info, bpf_attr) =
        unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    attr.info.bpf_fd = u32::try_from(fd).map_err(io::Error::other)?;
    attr.info.info_len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    attr.info.info = (&raw mut info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info.recursion_misses)
}
