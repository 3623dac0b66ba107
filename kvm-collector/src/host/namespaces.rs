//! The namespaces that this process and its `/proc` are in.
//!
//! eBPF programs report ids of the initial pid namespace. A `/proc` shows the ids of the pid namespace
//! that it was mounted in. In a container this is usually another namespace, where the same id belongs
//! to another process.

use std::{fs, path::Path, sync::OnceLock};

use super::task;

/// Mount point of the proc file system.
pub(super) const PROC: &str = "/proc";

/// A kind of namespace that a process has in `/proc/PID/ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// Process and thread ids.
    Pid,
    /// Offsets of clocks.
    Time,
    /// The time namespace of children that this process creates from now on.
    TimeForChildren,
    /// Users and capabilities.
    User,
}

impl Namespace {
    fn file(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Time => "time",
            Self::TimeForChildren => "time_for_children",
            Self::User => "user",
        }
    }

    /// Inode number of the initial namespace of this kind: a constant of the kernel
    /// (include/linux/proc_ns.h, Linux 6.12).
    pub(super) fn initial(self) -> u64 {
        match self {
            Self::Pid => 0xEFFF_FFFC,
            Self::Time | Self::TimeForChildren => 0xEFFF_FFFA,
            Self::User => 0xEFFF_FFFD,
        }
    }
}

/// Reads the inode number of a namespace of the process at this directory of `/proc`; `None` if it
/// cannot be read or the kernel has no namespaces of this kind.
pub(super) fn inode(process: &Path, namespace: Namespace) -> Option<u64> {
    // `pid:[4026531836]`
    let target = fs::read_link(process.join("ns").join(namespace.file())).ok()?;
    let (_, inode) = target.to_str()?.split_once(":[")?;
    inode.strip_suffix(']')?.parse().ok()
}

/// Reason why an id in `/proc` may belong to another process than the same id in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignIds {
    /// `/proc` shows the ids of a child pid namespace.
    #[error(
        "the kernel reports the process ids of the host, and this process sees the ids of a pid namespace below it (a container): {REMEDY}"
    )]
    ChildNamespace,
    /// It is unknown which pid namespace `/proc` belongs to.
    #[error(
        "the kernel reports the process ids of the host, and /proc does not show whether it has the same ids: {REMEDY}"
    )]
    Unknown,
}

const REMEDY: &str = "run kvm-collector in the host's pid namespace (on the host, `docker run --pid=host`, `hostPID: true`) or with the host's /proc mounted at /proc";

/// Checks that the ids in `/proc` are those that the kernel's events report. The answer is cached.
///
/// # Errors
/// If they are not, or if this is unknown.
pub fn check_kernel_ids() -> Result<(), ForeignIds> {
    static IDS: OnceLock<Result<(), ForeignIds>> = OnceLock::new();
    *IDS.get_or_init(|| check_kernel_ids_in(Path::new(PROC)))
}

fn check_kernel_ids_in(proc: &Path) -> Result<(), ForeignIds> {
    let own = proc.join("self");
    let namespace = inode(&own, Namespace::Pid);
    // `/proc` shows this process, so it belongs to the process's namespace or to an ancestor of that.
    // The initial namespace has no ancestor.
    if namespace == Some(Namespace::Pid.initial()) {
        return Ok(());
    }
    // The host's `/proc` can be mounted in a container. Process 2 of the host is kthreadd, a kernel
    // thread; a child namespace has no kernel threads.
    let kthreadd = proc.join("2");
    match task::flags(&kthreadd) {
        Some(_) if task::is_kernel_thread(&kthreadd) => Ok(()),
        Some(_) => Err(ForeignIds::ChildNamespace),
        None if namespace.is_some() && is_own(proc) => Err(ForeignIds::ChildNamespace),
        None => Err(ForeignIds::Unknown),
    }
}

/// Returns whether this `/proc` belongs to the process's own pid namespace, so its ids can be passed to
/// system calls.
pub(super) fn is_own(proc: &Path) -> bool {
    task::namespace_ids(&proc.join("self")).len() == 1
}

/// Returns whether this process is in a child user namespace. Its capabilities then do not apply to the
/// host's kernel, and so not to tracing.
#[must_use]
pub fn is_in_user_namespace() -> bool {
    let user = inode(&Path::new(PROC).join("self"), Namespace::User);
    user.is_some_and(|inode| inode != Namespace::User.initial())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::fake::FakeRoot;

    const INITIAL: &str = "pid:[4026531836]";
    const CHILD: &str = "pid:[4026532178]";
    const KTHREADD: &str = "2 (kthreadd) S 0 0 0 0 -1 2129984 0";
    const PROCESS: &str = "2 (kthreadd) S 1 2 2 0 -1 4194560 0";

    fn proc(namespace: Option<&str>, second: Option<&str>, ids: &str) -> FakeRoot {
        let tree = FakeRoot::new();
        tree.file("self/status", &format!("Name:\tx\nNSpid:\t{ids}\n"));
        tree.dir("self/ns");
        if let Some(namespace) = namespace {
            symlink(namespace, tree.path().join("self/ns/pid")).unwrap();
        }
        if let Some(second) = second {
            tree.file("2/stat", second);
        }
        tree
    }

    #[test]
    fn foreign_ids_in_proc_are_detected() {
        let foreign = Err(ForeignIds::ChildNamespace);
        for (namespace, second, ids, expected) in [
            (Some(INITIAL), None, "848", Ok(())),
            // The host's /proc in a container.
            (Some(CHILD), Some(KTHREADD), "6487\t4", Ok(())),
            // The container's own /proc, with and without a process 2.
            (Some(CHILD), Some(PROCESS), "4", foreign),
            (Some(CHILD), None, "4", foreign),
            // /proc of a namespace between the initial one and the container.
            (Some(CHILD), Some(PROCESS), "60\t4", foreign),
            // Other processes are hidden (mount option hidepid).
            (Some(CHILD), None, "6487\t4", Err(ForeignIds::Unknown)),
            // A kernel without pid namespaces.
            (None, Some(KTHREADD), "848", Ok(())),
            (None, None, "848", Err(ForeignIds::Unknown)),
        ] {
            let tree = proc(namespace, second, ids);
            let found = check_kernel_ids_in(tree.path());
            assert_eq!(found, expected, "{namespace:?}, {second:?}, {ids}");
        }
        // /proc is not mounted.
        assert_eq!(
            check_kernel_ids_in(FakeRoot::new().path()),
            Err(ForeignIds::Unknown)
        );
    }

    #[test]
    fn inodes_are_read_from_links() {
        let tree = proc(Some("pid:[12]"), None, "1");
        let own = tree.path().join("self");
        assert_eq!(inode(&own, Namespace::Pid), Some(12));
        assert_eq!(inode(&own, Namespace::User), None);
    }
}
