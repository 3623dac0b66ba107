//! The VMs that run on this host, and the threads that are their vCPUs.
//!
//! A VM is a process that holds KVM's file descriptors; which program it is does not matter. Several VMs in one process
//! are one here, as they are to everything that goes by process.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::{line, numbered, process, vm_name};

/// A process that runs a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vm {
    /// The process.
    pub tgid: u32,
    /// What its command line calls it, or `comm-tgid`.
    pub name: String,
    /// The program (its comm).
    pub vmm: String,
    /// Its vCPU threads as far as they can be told, by index.
    pub vcpus: Vec<Vcpu>,
}

/// A thread that runs a vCPU.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Vcpu {
    /// Its index within the VM; `None` when neither its name nor what it does tells.
    pub index: Option<u32>,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: String,
}

/// What a look at the host's processes found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The VMs, by process id.
    pub vms: Vec<Vm>,
    /// Processes that may not be looked into, so that VMs may be missing.
    pub unreadable: u32,
}

/// Lists the VMs of the host whose processes are under `proc` (`/proc`).
///
/// # Errors
/// When `proc` itself cannot be read.
pub fn list(proc: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    for (tgid, process) in numbered(proc)? {
        match holds_a_vm(&process) {
            Ok(true) => found.vms.extend(read(tgid, &process)),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.unreadable += 1,
            Err(_) => {} // it ended meanwhile
        }
    }
    found.vms.sort_by_key(|vm| vm.tgid);
    Ok(found)
}

/// What a process is called if it is a VM; `None` when it has ended, or where the ids in `/proc` are not the kernel's.
#[must_use]
pub fn name_of(tgid: u32) -> Option<String> {
    let process = process::directory(tgid)?;
    let vmm = line(process.join("comm"))?;
    Some(name(&process, &vmm, tgid))
}

fn name(process: &Path, vmm: &str, tgid: u32) -> String {
    vm_name::of(process).unwrap_or_else(|| format!("{vmm}-{tgid}"))
}

/// Reads one VM; `None` when its process ended meanwhile.
fn read(tgid: u32, process: &Path) -> Option<Vm> {
    let vmm = line(process.join("comm"))?;
    let name = name(process, &vmm, tgid);
    let mut vcpus: Vec<_> = numbered(&process.join("task"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(tid, task)| vcpu(process, tid, &task))
        .collect();
    vcpus.sort();
    Some(Vm {
        tgid,
        name,
        vmm,
        vcpus,
    })
}

/// Threads of the kernel's own in a VM's process. Their `syscall` file shows what the thread they were
/// made from was in, which may be a `KVM_RUN`.
const KERNEL_WORKERS: [&str; 3] = ["kvm-nx-lpage-re", "vhost-", "kvm-pit/"];

/// Makes out whether a thread is a vCPU, by its name or else by the `KVM_RUN` it is in.
fn vcpu(process: &Path, tid: u32, task: &Path) -> Option<Vcpu> {
    let comm = line(task.join("comm"))?;
    if let Some(index) = index_in_name(&comm) {
        return Some(Vcpu {
            index: Some(index),
            tid,
            comm,
        });
    }
    if KERNEL_WORKERS.iter().any(|name| comm.starts_with(name)) {
        return None;
    }
    let fd = kvm_run_fd(&line(task.join("syscall"))?)?;
    let target = fs::read_link(process.join("fd").join(fd.to_string())).ok();
    let index = target.and_then(|target| {
        target
            .to_str()?
            .strip_prefix("anon_inode:kvm-vcpu:")?
            .parse()
            .ok()
    });
    Some(Vcpu { index, tid, comm })
}

/// The index in a thread name that a VMM gives only to vCPUs.
fn index_in_name(comm: &str) -> Option<u32> {
    let number = match comm.strip_prefix("CPU ") {
        Some(rest) => rest.strip_suffix("/KVM")?, // QEMU
        None => ["fc_vcpu ", "crosvm_vcpu", "kvm-vcpu-", "vcpu"]
            .iter()
            .find_map(|prefix| comm.strip_prefix(prefix))?,
    };
    number.parse().ok()
}

/// The file descriptor of the `KVM_RUN` a thread is in, from its `/proc/PID/task/TID/syscall`.
///
/// A thread that is on a CPU says `running` there: then only its name can tell.
fn kvm_run_fd(syscall: &str) -> Option<u32> {
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

fn holds_a_vm(process: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(process.join("fd"))?
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.as_os_str() == "anon_inode:kvm-vm"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::fake::Tree;

    fn process(tree: &Tree, tgid: u32, comm: &str, cmdline: &str) {
        tree.file(&format!("{tgid}/comm"), &format!("{comm}\n"));
        tree.file(&format!("{tgid}/cmdline"), cmdline);
        tree.dir(&format!("{tgid}/fd"));
        tree.dir(&format!("{tgid}/task"));
    }

    fn fd(tree: &Tree, tgid: u32, fd: u32, target: &str) {
        symlink(target, tree.path().join(format!("{tgid}/fd/{fd}"))).unwrap();
    }

    fn thread(tree: &Tree, tgid: u32, tid: u32, comm: &str, syscall: &str) {
        tree.file(&format!("{tgid}/task/{tid}/comm"), &format!("{comm}\n"));
        tree.file(
            &format!("{tgid}/task/{tid}/syscall"),
            &format!("{syscall}\n"),
        );
    }

    #[test]
    fn a_vm_is_whoever_holds_a_vm_descriptor() {
        let tree = Tree::new();
        process(&tree, 7, "bash", "bash\0");
        fd(&tree, 7, 0, "/dev/pts/0");
        process(
            &tree,
            9,
            "qemu-system-x86",
            "qemu-system-x86_64\0-name\0guest=web,debug-threads=on\0",
        );
        fd(&tree, 9, 5, "anon_inode:kvm-vm");
        thread(&tree, 9, 9, "qemu-system-x86", "running");
        thread(&tree, 9, 11, "CPU 1/KVM", "running");
        thread(&tree, 9, 12, "CPU 0/KVM", "running");
        tree.file("version", "not a process");

        let found = list(tree.path()).unwrap();
        assert_eq!(found.unreadable, 0);
        assert_eq!(found.vms.len(), 1);
        let vm = &found.vms[0];
        assert_eq!(
            (vm.tgid, vm.name.as_str(), vm.vmm.as_str()),
            (9, "web", "qemu-system-x86")
        );
        let vcpus: Vec<_> = vm.vcpus.iter().map(|vcpu| (vcpu.index, vcpu.tid)).collect();
        assert_eq!(vcpus, [(Some(0), 12), (Some(1), 11)]);
    }

    #[test]
    fn an_unnamed_vcpu_is_known_by_what_it_does() {
        let tree = Tree::new();
        process(&tree, 9, "vmm", "vmm\0");
        fd(&tree, 9, 3, "anon_inode:kvm-vm");
        fd(&tree, 9, 10, "anon_inode:kvm-vcpu:2");
        thread(&tree, 9, 9, "vmm", "16 0x3 0x4020ae46 0x0");
        thread(
            &tree,
            9,
            10,
            "worker",
            "16 0xa 0xae80 0x0 0x0 0x0 0x0 0x7ffe 0x7f00",
        );
        let vm = &list(tree.path()).unwrap().vms[0];
        assert_eq!(vm.name, "vmm-9");
        assert_eq!(
            vm.vcpus,
            [Vcpu {
                index: Some(2),
                tid: 10,
                comm: "worker".to_owned()
            }]
        );
    }

    #[test]
    fn names_of_vcpu_threads() {
        for (comm, index) in [
            ("CPU 12/KVM", Some(12)),
            ("vcpu3", Some(3)),
            ("fc_vcpu 0", Some(0)),
            ("crosvm_vcpu7", Some(7)),
            ("CPU x/KVM", None),
            ("CPU 1/TCG", None),
            ("vcpu", None),
            ("qemu-system-x86", None),
        ] {
            assert_eq!(index_in_name(comm), index, "{comm}");
        }
    }

    #[test]
    fn no_proc_is_an_error() {
        assert!(list(Path::new("/nonexistent")).is_err());
    }
}
