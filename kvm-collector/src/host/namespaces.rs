//! The namespaces that this process and its `/proc` are in.
//!
//! The eBPF programs give the ids that processes and threads have in the initial pid namespace. User space looks ids up in
//! `/proc`, whose ids are those of the pid namespace that it was mounted in. In a container that is another one as a rule:
//! there the same number stands for another process.

use std::{fs, path::Path, sync::OnceLock};

use super::process::{self, PF_KTHREAD};

/// Where processes are found.
pub(super) const PROC: &str = "/proc";

/// A kind of namespace that a process has in `/proc/PID/ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// Of ids.
    Pid,
    /// Of clocks.
    Time,
    /// The clocks of children that are yet to be created.
    TimeForChildren,
    /// Of users and capabilities.
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

    /// The inode of the initial namespace of this kind, the same on every kernel (include/linux/proc_ns.h).
    pub(super) fn initial(self) -> u64 {
        match self {
            Self::Pid => 0xEFFF_FFFC,
            Self::Time | Self::TimeForChildren => 0xEFFF_FFFA,
            Self::User => 0xEFFF_FFFD,
        }
    }
}

/// The inode of a namespace of the process at this directory of `/proc`; `None` if that cannot be read, or if the kernel has
/// no namespaces of this kind.
pub(super) fn inode(process: &Path, namespace: Namespace) -> Option<u64> {
    // `pid:[4026531836]`
    let target = fs::read_link(process.join("ns").join(namespace.file())).ok()?;
    let (_, inode) = target.to_str()?.split_once(":[")?;
    inode.strip_suffix(']')?.parse().ok()
}

/// Why ids in `/proc` may stand for other processes than the kernel's ids do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignIds {
    /// `/proc` is of a child pid namespace.
    #[error(
        "the kernel reports the process ids of the host, and this process sees the ids of a pid namespace below it (a container): {REMEDY}"
    )]
    ChildNamespace,
    /// `/proc` does not say whose it is.
    #[error(
        "the kernel reports the process ids of the host, and /proc does not show whether it has the same ids: {REMEDY}"
    )]
    Unknown,
}

/// What to do about it.
const REMEDY: &str = "run kvm-collector in the host's pid namespace (on the host, `docker run --pid=host`, `hostPID: true`) or with the host's /proc mounted at /proc";

/// Are the ids in `/proc` those that the kernel reports? Found out once.
///
/// # Errors
/// Says why they are not, or why that is not known.
pub fn kernel_ids() -> Result<(), ForeignIds> {
    static IDS: OnceLock<Result<(), ForeignIds>> = OnceLock::new();
    *IDS.get_or_init(|| kernel_ids_in(Path::new(PROC)))
}

fn kernel_ids_in(proc: &Path) -> Result<(), ForeignIds> {
    let own = proc.join("self");
    let namespace = inode(&own, Namespace::Pid);
    // A `/proc` that shows this process is of its namespace or of one above, and there is none above the initial one.
    if namespace == Some(Namespace::Pid.initial()) {
        return Ok(());
    }
    // The host's `/proc` can be mounted in a container. Process 2 of the host is kthreadd, a kernel thread, and a child
    // namespace has no kernel threads.
    match process::flags(&proc.join("2")) {
        Some(flags) if flags & PF_KTHREAD != 0 => Ok(()),
        Some(_) => Err(ForeignIds::ChildNamespace),
        None if namespace.is_some() && is_own(proc) => Err(ForeignIds::ChildNamespace),
        None => Err(ForeignIds::Unknown),
    }
}

/// Is a `/proc` of this process's own pid namespace? Then its ids are those that system calls take.
pub(super) fn is_own(proc: &Path) -> bool {
    process::ids(&proc.join("self")).len() == 1
}

/// Is this process in a user namespace? Then it has its capabilities only over what belongs to that namespace, and the
/// kernel's events do not.
#[must_use]
pub fn is_in_user_namespace() -> bool {
    let user = inode(&Path::new(PROC).join("self"), Namespace::User);
    user.is_some_and(|inode| inode != Namespace::User.initial())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::fake::Tree;

    const INITIAL: &str = "pid:[4026531836]";
    const CHILD: &str = "pid:[4026532178]";
    const KTHREADD: &str = "2 (kthreadd) S 0 0 0 0 -1 2129984 0";
    const PROCESS: &str = "2 (kthreadd) S 1 2 2 0 -1 4194560 0";

    fn proc(namespace: Option<&str>, second: Option<&str>, ids: &str) -> Tree {
        let tree = Tree::new();
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
    fn whose_ids_there_are_is_found_out() {
        let foreign = Err(ForeignIds::ChildNamespace);
        for (namespace, second, ids, expected) in [
            (Some(INITIAL), None, "848", Ok(())),
            // The host's /proc in a container.
            (Some(CHILD), Some(KTHREADD), "6487\t4", Ok(())),
            // The container's own, with and without a process 2.
            (Some(CHILD), Some(PROCESS), "4", foreign),
            (Some(CHILD), None, "4", foreign),
            // Of a namespace between.
            (Some(CHILD), Some(PROCESS), "60\t4", foreign),
            // Others are hidden (hidepid).
            (Some(CHILD), None, "6487\t4", Err(ForeignIds::Unknown)),
            // A kernel without pid namespaces.
            (None, Some(KTHREADD), "848", Ok(())),
            (None, None, "848", Err(ForeignIds::Unknown)),
        ] {
            let tree = proc(namespace, second, ids);
            let found = kernel_ids_in(tree.path());
            assert_eq!(found, expected, "{namespace:?}, {second:?}, {ids}");
        }
        // Not mounted.
        assert_eq!(
            kernel_ids_in(Tree::new().path()),
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
