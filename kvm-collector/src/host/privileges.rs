//! What this process may do.

use std::path::Path;

use caps::{CapSet, Capability};
use serde::Serialize;

use super::{
    kernel::{self, Lockdown},
    namespaces,
};

/// Who this process is, and what of what we need it may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Privileges {
    /// Effective user id.
    pub euid: u32,
    /// `CAP_BPF`: load programs and maps.
    pub bpf: bool,
    /// `CAP_PERFMON`: trace the kernel with them.
    pub perfmon: bool,
    /// `CAP_SYS_ADMIN`: as good as both, and the only one kernels before 5.8 know.
    pub sys_admin: bool,
    /// The capabilities are those of a user namespace, and do not count for the host's kernel.
    pub in_user_namespace: bool,
}

/// Why tracing is closed to this process, whatever its capabilities are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barrier {
    /// `lockdown=confidentiality`.
    #[error(
        "the kernel is locked down (`confidentiality` in /sys/kernel/security/lockdown), which closes tracing to root as well: boot with lockdown=integrity or none"
    )]
    Lockdown,
    /// A user namespace.
    #[error(
        "this process is in a user namespace (a rootless container), whose root has no rights over the host's kernel: run kvm-collector as root of the host"
    )]
    UserNamespace,
}

/// What closes tracing to this process, if anything does.
#[must_use]
pub fn barrier() -> Option<Barrier> {
    if kernel::lockdown_of(Path::new("/")) == Some(Lockdown::Confidentiality) {
        return Some(Barrier::Lockdown);
    }
    namespaces::is_in_user_namespace().then_some(Barrier::UserNamespace)
}

/// What to do where the kernel refuses to load or attach programs.
#[must_use]
pub fn remedy() -> String {
    barrier().map_or_else(
        || "run as root, or with CAP_BPF and CAP_PERFMON (`kvm-collector doctor` shows what is missing)".to_owned(),
        |barrier| barrier.to_string(),
    )
}

impl Privileges {
    /// The capabilities that are missing; none when the programs can be loaded and attached.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let needed = [("CAP_BPF", self.bpf), ("CAP_PERFMON", self.perfmon)];
        needed
            .into_iter()
            .filter(|(_, held)| !held && !self.sys_admin)
            .map(|(name, _)| name)
            .collect()
    }
}

/// Asks the kernel about this process. What it does not tell counts as not held.
#[must_use]
pub fn read() -> Privileges {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    Privileges {
        euid: rustix::process::geteuid().as_raw(),
        bpf: effective.contains(&Capability::CAP_BPF),
        perfmon: effective.contains(&Capability::CAP_PERFMON),
        sys_admin: effective.contains(&Capability::CAP_SYS_ADMIN),
        in_user_namespace: namespaces::is_in_user_namespace(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_for_both() {
        let nobody = Privileges {
            euid: 1000,
            ..Privileges::default()
        };
        assert_eq!(nobody.missing(), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(
            Privileges {
                bpf: true,
                ..nobody
            }
            .missing(),
            ["CAP_PERFMON"]
        );
        assert!(
            Privileges {
                sys_admin: true,
                ..nobody
            }
            .missing()
            .is_empty()
        );
    }
}
