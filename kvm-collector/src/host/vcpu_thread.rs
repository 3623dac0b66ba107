//! Recognises the threads of a VMM that run a vCPU.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kvm_ebpf_common::vcpu_index_in_name;
use serde::{Deserialize, Serialize};

use super::files::read_line;

/// A thread that runs a vCPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vcpu {
    /// Index within the VM; `None` if neither the thread's name nor its system call shows it.
    #[serde(rename = "vcpu")]
    pub index: Option<u32>,
    /// Thread id.
    pub tid: u32,
    /// Name of the thread (comm).
    pub comm: String,
}

/// File descriptors of a process that has VMs.
pub(super) struct VmFiles {
    /// The thread that they were read from (its `fd` directory).
    pub(super) tid: u32,
    /// Directory of that thread in `/proc`.
    pub(super) task: PathBuf,
    /// Numbers of the VM descriptors.
    pub(super) vms: Vec<u32>,
}

/// Names of kernel threads in a VM's process. Their `syscall` file shows the system call of the thread
/// that created them, which may be a `KVM_RUN`.
const KERNEL_WORKERS: [&str; 3] = ["kvm-nx-lpage-re", "vhost-", "kvm-pit/"];

/// Recognises a vCPU thread by its name, or else by the `KVM_RUN` that it executes.
pub(super) fn read(files: &VmFiles, tid: u32, is_main: bool, task: &Path) -> Option<Vcpu> {
    let comm = read_line(task.join("comm"))?;
    // The main thread of a process that a vCPU thread forked has that thread's name.
    if !is_main && let Some(index) = vcpu_index_in_name(&comm) {
        return Some(Vcpu {
            index: Some(index),
            tid,
            comm,
        });
    }
    if KERNEL_WORKERS.iter().any(|name| comm.starts_with(name)) {
        return None;
    }
    let fd = kvm_run_fd(&read_line(task.join("syscall"))?)?;
    let target = fs::read_link(files.task.join("fd").join(fd.to_string())).ok();
    let index = target.and_then(|target| {
        target
            .to_str()?
            .strip_prefix("anon_inode:kvm-vcpu:")?
            .parse()
            .ok()
    });
    Some(Vcpu { index, tid, comm })
}

/// vCPU file descriptor of the `KVM_RUN` that a thread executes, from `/proc/PID/task/TID/syscall`.
///
/// `None` for a thread that is on a CPU: the file then contains only `running`.
pub(super) fn kvm_run_fd(syscall: &str) -> Option<u32> {
    const KVM_RUN: &str = "0xae80";
    let ioctl = libc::SYS_ioctl.to_string();

    let mut words = syscall.split(' ');
    if words.next()? != ioctl {
        return None;
    }
    let fd = words.next()?.strip_prefix("0x")?;
    (words.next()? == KVM_RUN)
        .then(|| u32::from_str_radix(fd, 16).ok())
        .flatten()
}
