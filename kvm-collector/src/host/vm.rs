//! The VMs that run on this host, and the threads that are their vCPUs.
//!
//! A VM is a process that holds KVM's file descriptors; which program it is does not matter. Several VMs in one process
//! are one here, as they are to everything that goes by process. A process that was forked from a VMM inherits the
//! descriptors, but KVM serves only the process that created the VM: the other one is no VM.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::namespaces;
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

/// Lists the VMs of the host whose processes are under `proc` (`/proc`). Their ids are those of that `/proc`, which may not
/// be the kernel's (see [`namespaces`]).
///
/// # Errors
/// When `proc` itself cannot be read.
pub fn list(proc: &Path) -> io::Result<Found> {
    // The system call takes the ids of this process's own pid namespace.
    let has_own_ids = namespaces::is_own(proc);
    list_by(proc, &|a, b| has_own_ids && is_same_file(a, b))
}

fn list_by(proc: &Path, is_same_file: &IsSameFile<'_>) -> io::Result<Found> {
    let mut found = Found::default();
    let mut holders = Vec::new();
    for (tgid, process) in numbered(proc)? {
        match vm_files(tgid, &process) {
            Ok(Some(files)) => {
                holders.extend(read(tgid, &process, &files).map(|vm| Holder { vm, files }));
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.unreadable += 1,
            Err(_) => {} // it ended meanwhile
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

/// A descriptor, by the thread that has it and its number.
type Descriptor = (u32, u32);

/// Are two descriptors certainly of one open file?
type IsSameFile<'a> = dyn Fn(Descriptor, Descriptor) -> bool + 'a;

/// A process that holds VMs.
struct Holder {
    vm: Vm,
    files: VmFiles,
}

/// The open files of a process that holds VMs.
struct VmFiles {
    /// The thread that was asked for them, and its directory.
    tid: u32,
    task: PathBuf,
    /// The descriptors of VMs.
    vms: Vec<u32>,
}

impl Holder {
    /// Has it only inherited its VMs? It has no vCPU thread, and each of its VMs is also held by a process that has one, or
    /// that it descends from.
    fn has_inherited(&self, all: &[Self], proc: &Path, is_same_file: &IsSameFile<'_>) -> bool {
        if !self.vm.vcpus.is_empty() {
            return false;
        }
        let ancestors = ancestors(proc, self.vm.tgid);
        let runs_it = |other: &&Self| {
            other.vm.tgid != self.vm.tgid
                && (!other.vm.vcpus.is_empty() || ancestors.contains(&other.vm.tgid))
        };
        self.files.vms.iter().all(|fd| {
            let holds = |other: &Self| {
                let mut vms = other.files.vms.iter();
                vms.any(|of_other| is_same_file((self.files.tid, *fd), (other.files.tid, *of_other)))
            };
            all.iter().filter(runs_it).any(holds)
        })
    }
}

/// The parent of a process, its parent, and so on.
fn ancestors(proc: &Path, tgid: u32) -> Vec<u32> {
    let mut ancestors = Vec::new();
    let mut next = tgid;
    while let Some(parent) = process::parent(&proc.join(next.to_string()))
        && parent != 0
        // Processes that end meanwhile could make a circle of it.
        && !ancestors.contains(&parent)
    {
        ancestors.push(parent);
        next = parent;
    }
    ancestors
}

/// kcmp(2): also `false` where the kernel does not say.
fn is_same_file(a: Descriptor, b: Descriptor) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    // SAFETY: the call takes numbers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, a.0, b.0, KCMP_FILE, a.1, b.1) };
    order == 0
}

/// The files of a process that holds VMs; `None` if it holds none.
fn vm_files(tgid: u32, process: &Path) -> io::Result<Option<VmFiles>> {
    let main = (tgid, process.to_owned());
    // A main thread that has ended has no files any more, while the process goes on.
    let others = || numbered(&process.join("task")).unwrap_or_default();
    for (tid, task) in std::iter::once(main).chain(others().into_iter().filter(|it| it.0 != tgid)) {
        let files = match numbered(&task.join("fd")) {
            Ok(files) if !files.is_empty() => files,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            // It has ended, or has no open files.
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

/// Reads one VM; `None` when its process ended meanwhile.
fn read(tgid: u32, process: &Path, files: &VmFiles) -> Option<Vm> {
    let vmm = line(process.join("comm"))?;
    let name = name(process, &vmm, tgid);
    let mut vcpus: Vec<_> = numbered(&process.join("task"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(tid, task)| vcpu(files, tid, tid == tgid, &task))
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
fn vcpu(files: &VmFiles, tid: u32, is_main: bool, task: &Path) -> Option<Vcpu> {
    let comm = line(task.join("comm"))?;
    // The main thread of a process that was forked from a vCPU's thread has that thread's name.
    if !is_main && let Some(index) = index_in_name(&comm) {
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

    fn child_of(tree: &Tree, tgid: u32, parent: u32) {
        tree.file(&format!("{tgid}/stat"), &format!("{tgid} (x) S {parent} 0"));
    }

    /// The VMs found if descriptors of the same number are of one open file.
    fn tgids(tree: &Tree) -> Vec<u32> {
        let found = list_by(tree.path(), &|a, b| a.1 == b.1).unwrap();
        found.vms.iter().map(|vm| vm.tgid).collect()
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
    fn a_process_whose_main_thread_has_ended_is_found() {
        let tree = Tree::new();
        // What is left of the main thread has neither files nor a command line.
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
    fn a_forked_child_is_no_second_vm() {
        let tree = Tree::new();
        for (tgid, parent) in [(9, 1), (20, 9), (21, 20), (22, 1)] {
            process(&tree, tgid, "vmm", "vmm\0");
            child_of(&tree, tgid, parent);
            fd(&tree, tgid, 5, "anon_inode:kvm-vm");
        }
        // No vCPU is known yet: those that descend from another holder have inherited. The last may be anything.
        assert_eq!(tgids(&tree), [9, 22]);
        // The last was forked as well, and its parent has ended since.
        thread(&tree, 9, 11, "CPU 0/KVM", "running");
        assert_eq!(tgids(&tree), [9]);
        // A child of a vCPU's thread has its name.
        thread(&tree, 20, 20, "CPU 0/KVM", "running");
        assert_eq!(tgids(&tree), [9]);
    }

    #[test]
    fn a_child_with_a_vm_of_its_own_is_a_vm() {
        let tree = Tree::new();
        for (tgid, parent) in [(9, 1), (20, 9), (30, 9)] {
            process(&tree, tgid, "vmm", "vmm\0");
            child_of(&tree, tgid, parent);
        }
        fd(&tree, 9, 5, "anon_inode:kvm-vm");
        fd(&tree, 20, 6, "anon_inode:kvm-vm");
        fd(&tree, 30, 5, "anon_inode:kvm-vm");
        fd(&tree, 30, 6, "anon_inode:kvm-vm");
        // The last has inherited one of its two.
        assert_eq!(tgids(&tree), [9, 20, 30]);
        // Where the kernel does not say which files are the same, all are listed.
        let found = list_by(tree.path(), &|_, _| false).unwrap();
        assert_eq!(found.vms.len(), 3);
    }

    #[test]
    fn a_file_is_the_same_as_its_duplicate_only() {
        use std::os::fd::AsRawFd as _;
        let file = fs::File::open("/proc/self/stat").unwrap();
        let duplicate = file.try_clone().unwrap();
        let other = fs::File::open("/proc/self/stat").unwrap();
        let of = |file: &fs::File| (std::process::id(), u32::try_from(file.as_raw_fd()).unwrap());
        // A kernel without kcmp(2), or a filter of system calls, does not even say that of one descriptor.
        let is_known = is_same_file(of(&file), of(&file));
        assert_eq!(is_same_file(of(&file), of(&duplicate)), is_known);
        assert!(!is_same_file(of(&file), of(&other)));
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
