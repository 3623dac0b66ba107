//! Lists the VMs of this host and their vCPU threads.
//!
//! A VM is a process that has a file descriptor of KVM for a VM, whatever program it runs. Several VMs
//! in one process count as one VM, because events are attributed by process. A process that was forked
//! from a VMM inherits its descriptors but is not listed: KVM accepts requests only from the process
//! that created the VM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    files::{numbered_entries, read_line},
    namespaces, process, task,
    vcpu_thread::{self, Vcpu, VmFiles},
    vm_identity::{VmName, VmUuid},
    vm_name,
};

/// A process that runs a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Process id.
    #[serde(rename = "pid")]
    pub tgid: u32,
    /// Name from the command line or the cgroup, otherwise `comm-tgid`.
    #[serde(rename = "vm")]
    pub name: String,
    /// UUID from the command line.
    #[serde(rename = "vm_uuid")]
    pub uuid: Option<VmUuid>,
    /// Name of the program (comm).
    pub vmm: String,
    /// The vCPU threads that were recognised, by index.
    pub vcpus: Vec<Vcpu>,
}

impl Vm {
    /// Returns the name and the UUID.
    #[must_use]
    pub fn identity(&self) -> VmName {
        VmName {
            name: self.name.clone(),
            uuid: self.uuid,
        }
    }
}

/// Result of [`list`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmList {
    /// The VMs, by process id.
    pub vms: Vec<Vm>,
    /// Number of processes that could not be read for lack of permission: VMs may be missing.
    pub unreadable: u32,
}

/// Lists the VMs among the processes in `proc` (`/proc`). Their ids are those of that `/proc`, which may
/// differ from the kernel's (see [`namespaces`]).
///
/// # Errors
/// If `proc` itself cannot be read.
pub fn list(proc: &Path) -> io::Result<VmList> {
    // kcmp(2) takes ids of this process's own pid namespace.
    let has_own_ids = namespaces::is_own(proc);
    list_by(proc, &|a, b| has_own_ids && is_same_file(a, b))
}

fn list_by(proc: &Path, is_same_file: &IsSameFile<'_>) -> io::Result<VmList> {
    let mut found = VmList::default();
    let mut holders = Vec::new();
    for (tgid, process) in numbered_entries(proc)? {
        match vm_files(tgid, &process) {
            Ok(Some(files)) => {
                holders.extend(read(tgid, &process, &files).map(|vm| Holder { vm, files }));
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.unreadable += 1,
            // The process has ended meanwhile.
            Err(_) => {}
        }
    }
    let inherited: Vec<_> = holders
        .iter()
        .filter(|holder| holder.has_inherited(&holders, proc, is_same_file))
        .map(|holder| holder.vm.tgid)
        .collect();
    let vms = holders.into_iter().map(|holder| holder.vm);
    found.vms = vms.filter(|vm| !inherited.contains(&vm.tgid)).collect();
    found.vms.sort_by_key(|vm| vm.tgid);
    Ok(found)
}

/// Name and UUID of the VM that a process runs; `None` if the process ends or has ended, or if the ids in
/// `/proc` are not the kernel's.
#[must_use]
pub fn name_of(tgid: u32) -> Option<VmName> {
    let process = process::proc_dir(tgid)?;
    let vmm = read_line(process.join("comm"))?;
    let name = name(&process, &vmm, tgid);
    // A process that ends has no command line any more, so the name may be another one than before.
    (!process::is_exiting(tgid)).then_some(name)
}

fn name(process: &Path, vmm: &str, tgid: u32) -> VmName {
    vm_name::read(process, || format!("{vmm}-{tgid}"))
}

/// A file descriptor: id of the thread that has it, and its number.
type Descriptor = (u32, u32);

/// Returns whether two descriptors refer to the same open file. `false` if this is unknown.
type IsSameFile<'a> = dyn Fn(Descriptor, Descriptor) -> bool + 'a;

/// A process with VM descriptors, and those descriptors.
struct Holder {
    vm: Vm,
    files: VmFiles,
}

impl Holder {
    /// Returns whether the process has only inherited its VMs: it has no vCPU thread, and another
    /// process, which has vCPU threads or is an ancestor, has each of its VM descriptors as well.
    fn has_inherited(&self, all: &[Self], proc: &Path, is_same_file: &IsSameFile<'_>) -> bool {
        if !self.vm.vcpus.is_empty() {
            return false;
        }
        let ancestors = ancestors(proc, self.vm.tgid);
        let may_run_it = |other: &&Self| {
            other.vm.tgid != self.vm.tgid
                && (!other.vm.vcpus.is_empty() || ancestors.contains(&other.vm.tgid))
        };
        self.files.vms.iter().all(|fd| {
            let has_it = |other: &Self| {
                let mut vms = other.files.vms.iter();
                vms.any(|of_other| {
                    is_same_file((self.files.tid, *fd), (other.files.tid, *of_other))
                })
            };
            all.iter().filter(may_run_it).any(has_it)
        })
    }
}

/// Process ids of the parent, its parent, and so on.
fn ancestors(proc: &Path, tgid: u32) -> Vec<u32> {
    let mut ancestors = Vec::new();
    let mut next = tgid;
    while let Some(parent) = task::parent(&proc.join(next.to_string()))
        && parent != 0
        // Ids that are reused meanwhile could form a cycle.
        && !ancestors.contains(&parent)
    {
        ancestors.push(parent);
        next = parent;
    }
    ancestors
}

/// Compares two descriptors with kcmp(2); `false` if the kernel does not permit or support it.
fn is_same_file(a: Descriptor, b: Descriptor) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: the system call takes only numbers, no pointers.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, a.0, b.0, KCMP_FILE, a.1, b.1) };
    order == 0
}

/// Reads the VM descriptors of a process; `None` if it has none.
fn vm_files(tgid: u32, process: &Path) -> io::Result<Option<VmFiles>> {
    let main = (tgid, process.to_owned());
    // A process can outlive its main thread, which then has no files any more.
    let others = || numbered_entries(&process.join("task")).unwrap_or_default();
    for (tid, task) in std::iter::once(main).chain(others().into_iter().filter(|it| it.0 != tgid)) {
        let files = match numbered_entries(&task.join("fd")) {
            Ok(files) if !files.is_empty() => files,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // The thread has ended or has no open files.
            _ => continue,
        };
        let is_vm = |path: &PathBuf| {
            fs::read_link(path).is_ok_and(|target| target.as_os_str() == "anon_inode:kvm-vm")
        };
        let vms = files.into_iter().filter(|(_, path)| is_vm(path));
        let vms: Vec<_> = vms.map(|(fd, _)| fd).collect();
        return Ok((!vms.is_empty()).then_some(VmFiles { tid, task, vms }));
    }
    Ok(None)
}

/// Reads one VM; `None` if its process has ended meanwhile.
fn read(tgid: u32, process: &Path, files: &VmFiles) -> Option<Vm> {
    let vmm = read_line(process.join("comm"))?;
    let VmName { name, uuid } = name(process, &vmm, tgid);
    let mut vcpus: Vec<_> = numbered_entries(&process.join("task"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(tid, task)| vcpu_thread::read(files, tid, tid == tgid, &task))
        .collect();
    vcpus.sort();
    Some(Vm {
        tgid,
        name,
        uuid,
        vmm,
        vcpus,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::fake::FakeRoot;

    fn process(tree: &FakeRoot, tgid: u32, comm: &str, cmdline: &str) {
        tree.file(&format!("{tgid}/comm"), &format!("{comm}\n"));
        tree.file(&format!("{tgid}/cmdline"), cmdline);
        tree.dir(&format!("{tgid}/fd"));
        tree.dir(&format!("{tgid}/task"));
    }

    fn fd(tree: &FakeRoot, tgid: u32, fd: u32, target: &str) {
        symlink(target, tree.path().join(format!("{tgid}/fd/{fd}"))).unwrap();
    }

    fn child_of(tree: &FakeRoot, tgid: u32, parent: u32) {
        tree.file(&format!("{tgid}/stat"), &format!("{tgid} (x) S {parent} 0"));
    }

    /// Lists VMs as if descriptors with the same number were the same open file.
    fn tgids(tree: &FakeRoot) -> Vec<u32> {
        let found = list_by(tree.path(), &|a, b| a.1 == b.1).unwrap();
        found.vms.iter().map(|vm| vm.tgid).collect()
    }

    fn thread(tree: &FakeRoot, tgid: u32, tid: u32, comm: &str, syscall: &str) {
        tree.file(&format!("{tgid}/task/{tid}/comm"), &format!("{comm}\n"));
        tree.file(
            &format!("{tgid}/task/{tid}/syscall"),
            &format!("{syscall}\n"),
        );
    }

    #[test]
    fn a_process_with_a_vm_descriptor_is_a_vm() {
        let tree = FakeRoot::new();
        process(&tree, 7, "bash", "bash\0");
        fd(&tree, 7, 0, "/dev/pts/0");
        process(
            &tree,
            9,
            "qemu-system-x86",
            "qemu-system-x86_64\0-name\0guest=web,debug-threads=on\0-uuid\0AB4E28BA-2FA1-11D2-883F-0016D3CCA427\0",
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
        let uuid = vm.uuid.map(|it| it.to_string());
        assert_eq!(
            uuid.as_deref(),
            Some("ab4e28ba-2fa1-11d2-883f-0016d3cca427")
        );
        let vcpus: Vec<_> = vm.vcpus.iter().map(|vcpu| (vcpu.index, vcpu.tid)).collect();
        assert_eq!(vcpus, [(Some(0), 12), (Some(1), 11)]);
    }

    #[test]
    fn an_unnamed_vcpu_thread_is_recognised_by_its_kvm_run() {
        let tree = FakeRoot::new();
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
        assert_eq!((vm.name.as_str(), vm.uuid), ("vmm-9", None));
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
    fn a_process_whose_main_thread_has_ended_is_found() {
        let tree = FakeRoot::new();
        // A main thread that has ended has neither files nor a command line.
        process(&tree, 9, "vmm", "");
        thread(&tree, 9, 9, "vmm", "");
        tree.dir("9/task/9/fd");
        tree.file("9/task/9/cmdline", "");
        thread(&tree, 9, 10, "worker", "16 0x8 0xae80 0x0");
        tree.file("9/task/10/cmdline", "vmm\0--name\0web\0");
        fd(&tree, 9, 7, "anon_inode:kvm-vm");
        fd(&tree, 9, 8, "anon_inode:kvm-vcpu:1");
        fs::rename(tree.path().join("9/fd"), tree.path().join("9/task/10/fd")).unwrap();
        tree.dir("9/fd");
        let vm = &list(tree.path()).unwrap().vms[0];
        assert_eq!((vm.tgid, vm.name.as_str()), (9, "web"));
        assert_eq!((vm.vcpus[0].index, vm.vcpus[0].tid), (Some(1), 10));
    }

    #[test]
    fn a_forked_child_is_not_listed() {
        let tree = FakeRoot::new();
        for (tgid, parent) in [(9, 1), (20, 9), (21, 20), (22, 1)] {
            process(&tree, tgid, "vmm", "vmm\0");
            child_of(&tree, tgid, parent);
            fd(&tree, tgid, 5, "anon_inode:kvm-vm");
        }
        // No vCPU thread exists yet. 20 and 21 are descendants of 9; 22 is unrelated to it.
        assert_eq!(tgids(&tree), [9, 22]);
        // 9 has a vCPU thread, so 22 must have been forked from it, and its parent has ended since.
        thread(&tree, 9, 11, "CPU 0/KVM", "running");
        assert_eq!(tgids(&tree), [9]);
        // The main thread of a child that a vCPU thread forked has the vCPU thread's name.
        thread(&tree, 20, 20, "CPU 0/KVM", "running");
        assert_eq!(tgids(&tree), [9]);
    }

    #[test]
    fn a_child_with_its_own_vm_is_listed() {
        let tree = FakeRoot::new();
        for (tgid, parent) in [(9, 1), (20, 9), (30, 9)] {
            process(&tree, tgid, "vmm", "vmm\0");
            child_of(&tree, tgid, parent);
        }
        fd(&tree, 9, 5, "anon_inode:kvm-vm");
        fd(&tree, 20, 6, "anon_inode:kvm-vm");
        fd(&tree, 30, 5, "anon_inode:kvm-vm");
        fd(&tree, 30, 6, "anon_inode:kvm-vm");
        // 30 has inherited one of its two VMs.
        assert_eq!(tgids(&tree), [9, 20, 30]);
        // If the kernel cannot compare files, all are listed.
        let found = list_by(tree.path(), &|_, _| false).unwrap();
        assert_eq!(found.vms.len(), 3);
    }

    #[test]
    fn only_duplicates_are_the_same_file() {
        use std::os::fd::AsRawFd as _;
        let file = fs::File::open("/proc/self/stat").unwrap();
        let duplicate = file.try_clone().unwrap();
        let other = fs::File::open("/proc/self/stat").unwrap();
        let of = |file: &fs::File| (std::process::id(), u32::try_from(file.as_raw_fd()).unwrap());
        // Without kcmp(2), or with a seccomp filter, not even a descriptor equals itself.
        let is_known = is_same_file(of(&file), of(&file));
        assert_eq!(is_same_file(of(&file), of(&duplicate)), is_known);
        assert!(!is_same_file(of(&file), of(&other)));
    }

    #[test]
    fn a_missing_proc_is_an_error() {
        assert!(list(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn an_ended_process_has_no_name() {
        if namespaces::check_kernel_ids().is_err() {
            return;
        }
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        let began = std::time::Instant::now();
        while !process::has_ended(pid, pid) {
            assert!(began.elapsed().as_secs() < 10);
            std::thread::yield_now();
        }
        // A zombie still has a `comm`.
        assert_eq!(name_of(pid), None);
        child.wait().unwrap();
        assert_eq!(name_of(pid), None);
        assert!(name_of(std::process::id()).is_some());
    }
}
