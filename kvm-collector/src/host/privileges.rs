//! Privileges of this process, and what prevents tracing.

use std::path::Path;

use caps::{CapSet, Capability};
use serde::Serialize;

use super::{
    kernel::{self, Lockdown},
    namespaces,
};

/// User and capabilities of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Privileges {
    /// Effective user id.
    pub euid: u32,
    /// `CAP_BPF`: permits loading programs and creating maps.
    pub bpf: bool,
    /// `CAP_PERFMON`: permits tracing programs.
    pub perfmon: bool,
    /// `CAP_SYS_ADMIN`: includes both; the only one of them before Linux 5.8.
    pub sys_admin: bool,
    /// The process is in a child user namespace, so its capabilities do not apply to the host's kernel.
    pub in_user_namespace: bool,
}

/// Reason why this process cannot trace, whatever its capabilities are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Barrier {
    /// The kernel is in lockdown mode `confidentiality`.
    #[error(
        "the kernel is locked down (`confidentiality` in /sys/kernel/security/lockdown), which closes tracing to root as well: boot with lockdown=integrity or none"
    )]
    Lockdown,
    /// The process is in a child user namespace.
    #[error(
        "this process is in a user namespace (a rootless container), where root has no rights over the host's kernel: run kvm-collector as root of the host"
    )]
    UserNamespace,
}

/// Returns what prevents tracing, if anything does.
#[must_use]
pub fn tracing_barrier() -> Option<Barrier> {
    if kernel::read_lockdown(Path::new("/")) == Some(Lockdown::Confidentiality) {
        return Some(Barrier::Lockdown);
    }
    namespaces::is_in_user_namespace().then_some(Barrier::UserNamespace)
}

/// Advice for the case that the kernel refuses to load or attach programs.
#[must_use]
pub fn remedy() -> String {
    match tracing_barrier() {
        Some(barrier) => barrier.to_string(),
        None => remedy_for(&read().missing()),
    }
}

fn remedy_for(missing: &[&str]) -> String {
    match missing {
        [] => "it has CAP_BPF and CAP_PERFMON, so a security module or the seccomp filter of a container engine forbids it".to_owned(),
        missing => format!(
            "run as root, or grant {} to kvm-collector, which is missing (docs/security.md shows how)",
            missing.join(" and ")
        ),
    }
}

impl Privileges {
    /// Returns the names of missing capabilities; empty if programs can be loaded and attached.
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

/// Reads the privileges of this process. A capability that cannot be read counts as missing.
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
    fn what_is_missing_is_named() {
        assert!(remedy_for(&["CAP_PERFMON"]).contains("grant CAP_PERFMON to"));
        assert!(remedy_for(&["CAP_BPF", "CAP_PERFMON"]).contains("CAP_BPF and CAP_PERFMON"));
        assert!(remedy_for(&[]).contains("seccomp"));
    }

    #[test]
    fn sys_admin_includes_both_capabilities() {
        let unprivileged = Privileges {
            euid: 1000,
            ..Privileges::default()
        };
        assert_eq!(unprivileged.missing(), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(
            Privileges {
                bpf: true,
                ..unprivileged
            }
            .missing(),
            ["CAP_PERFMON"]
        );
        assert!(
            Privileges {
                sys_admin: true,
                ..unprivileged
            }
            .missing()
            .is_empty()
        );
    }
}
