//! What a vCPU thread does at a moment, from `/proc`. It shows what a VM does that makes no exits.

use std::{collections::HashMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    files::read_line, process::proc_dir, task::Stat, vcpu_thread::kvm_run_fd, vm::Vm,
    vm_identity::VmUuid,
};

/// What a vCPU thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VcpuActivity {
    /// It runs, and its guest time has increased since the previous reading.
    InGuest,
    /// It runs or is runnable, but its guest time has not increased: in the VMM, in the kernel, or on a kernel that does
    /// not measure guest time.
    Running,
    /// It sleeps in the kernel within `KVM_RUN`: the guest has halted the vCPU, or has not started it yet.
    Halted,
    /// It sleeps outside of `KVM_RUN`: the VMM has paused the vCPU, or has not started it yet.
    WaitsInVmm,
    /// It is stopped by a signal (SIGSTOP) or a debugger.
    Stopped,
    /// The thread has ended, or cannot be read.
    Unknown,
}

impl VcpuActivity {
    /// Returns the description for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::InGuest => "running in the guest",
            Self::Running => "running, not known to be in the guest",
            Self::Halted => "halted",
            Self::WaitsInVmm => "waiting in the VMM (paused or not started)",
            Self::Stopped => "stopped by a signal",
            Self::Unknown => "unknown",
        }
    }

    /// Returns a description of one or two words.
    #[must_use]
    pub fn short_text(self) -> &'static str {
        match self {
            Self::InGuest => "in guest",
            Self::Running => "running",
            Self::Halted => "halted",
            Self::WaitsInVmm => "in VMM",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// A vCPU of a VM without exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleVcpu {
    /// Index within the VM; `None` if it is unknown.
    pub vcpu: Option<u32>,
    /// Thread id.
    pub tid: u32,
    /// What it does.
    #[serde(rename = "activity")]
    pub state: VcpuActivity,
}

/// A VM that made no exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdleVm {
    /// Name of the VM.
    pub vm: String,
    /// UUID of the VM, if known.
    pub vm_uuid: Option<VmUuid>,
    /// Process id of the VMM.
    pub pid: u32,
    /// The known vCPUs.
    pub vcpus: Vec<IdleVcpu>,
}

/// Reads what vCPU threads do. Stores their guest time, to see whether it increases until the next reading.
#[derive(Debug, Default)]
pub struct ActivityReader {
    /// Guest time in clock ticks, by thread.
    guest_ticks: HashMap<u32, u64>,
}

impl ActivityReader {
    /// Reads what the vCPUs of a VM do.
    pub fn read(&mut self, vm: &Vm) -> Vec<IdleVcpu> {
        let vcpus = vm.vcpus.iter().map(|vcpu| {
            let task = proc_dir(vm.tgid).map(|it| it.join("task").join(vcpu.tid.to_string()));
            let state = task.map_or(VcpuActivity::Unknown, |it| self.read_thread(vcpu.tid, &it));
            IdleVcpu {
                vcpu: vcpu.index,
                tid: vcpu.tid,
                state,
            }
        });
        vcpus.collect()
    }

    /// Removes threads that are not in `vms`.
    pub fn retain(&mut self, vms: &[Vm]) {
        let is_listed = |tid: u32| vms.iter().any(|vm| vm.vcpus.iter().any(|it| it.tid == tid));
        self.guest_ticks.retain(|tid, _| is_listed(*tid));
    }

    /// Reads what the thread with this directory in `/proc` does.
    fn read_thread(&mut self, tid: u32, task: &Path) -> VcpuActivity {
        let Some(stat) = Stat::read(task) else {
            self.guest_ticks.remove(&tid);
            return VcpuActivity::Unknown;
        };
        let ticks = stat.guest_ticks().unwrap_or(0);
        let earlier = self.guest_ticks.insert(tid, ticks);
        let has_run_guest = earlier.is_some_and(|earlier| ticks > earlier);
        match stat.field::<char>(3) {
            Some('T' | 't') => VcpuActivity::Stopped,
            Some('R') if has_run_guest => VcpuActivity::InGuest,
            Some('R') => VcpuActivity::Running,
            Some('S' | 'D' | 'I') => {
                let syscall = read_line(task.join("syscall"));
                match syscall {
                    Some(syscall) if kvm_run_fd(&syscall).is_some() => VcpuActivity::Halted,
                    // It was woken up meanwhile.
                    Some(syscall) if syscall == "running" => VcpuActivity::Running,
                    Some(_) => VcpuActivity::WaitsInVmm,
                    None => VcpuActivity::Unknown,
                }
            }
            _ => VcpuActivity::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeRoot;

    /// Fields 4 to 42 of `stat`, which do not matter here.
    fn stat(state: char, guest_ticks: u64) -> String {
        format!("7 (CPU 0/KVM) {state} {}{guest_ticks} 0", "0 ".repeat(39))
    }

    fn read(
        reader: &mut ActivityReader,
        state: char,
        guest_ticks: u64,
        syscall: &str,
    ) -> VcpuActivity {
        let tree = FakeRoot::new();
        tree.file("7/stat", &stat(state, guest_ticks));
        tree.file("7/syscall", syscall);
        reader.read_thread(7, &tree.path().join("7"))
    }

    #[test]
    fn state_system_call_and_guest_time_show_what_a_vcpu_does() {
        let reader = &mut ActivityReader::default();
        let kvm_run = format!("{} 0x10 0xae80 0x0", libc::SYS_ioctl);
        let futex = format!("{} 0x10 0x0 0x0", libc::SYS_futex);
        assert_eq!(read(reader, 'R', 100, "running"), VcpuActivity::Running);
        assert_eq!(read(reader, 'R', 120, "running"), VcpuActivity::InGuest);
        assert_eq!(read(reader, 'R', 120, "running"), VcpuActivity::Running);
        assert_eq!(read(reader, 'S', 121, &kvm_run), VcpuActivity::Halted);
        assert_eq!(read(reader, 'S', 121, &futex), VcpuActivity::WaitsInVmm);
        assert_eq!(read(reader, 'T', 121, &kvm_run), VcpuActivity::Stopped);
        assert_eq!(read(reader, 'Z', 121, ""), VcpuActivity::Unknown);
        let missing = reader.read_thread(7, Path::new("/nonexistent"));
        assert_eq!(missing, VcpuActivity::Unknown);
    }
}
