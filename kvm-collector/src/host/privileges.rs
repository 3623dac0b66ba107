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
        None => read().remedy(kernel::read_perf_event_paranoid(Path::new("/"))),
    }
}

/// The highest value of `kernel.perf_event_paranoid` in Linux itself. With a higher one, the kernels of Debian and Ubuntu refuse
/// to attach programs to most tracepoints without CAP_SYS_ADMIN, whatever CAP_PERFMON permits.
const MAX_PERF_EVENT_PARANOID: i32 = 2;

impl Privileges {
    /// Advice for the case that the kernel refuses to load or attach programs. `perf_event_paranoid` is the value of the sysctl.
    #[must_use]
    pub fn remedy(&self, perf_event_paranoid: Option<i32>) -> String {
        let missing = self.missing();
        if !missing.is_empty() {
            return format!(
                "run as root, or grant {} to kvm-collector, which is missing (docs/security.md shows how)",
                missing.join(" and ")
            );
        }
        match perf_event_paranoid {
            Some(level) if level > MAX_PERF_EVENT_PARANOID && !self.sys_admin => format!(
                "the sysctl kernel.perf_event_paranoid is {level}, with which this kernel requires CAP_SYS_ADMIN: run as root, or set it to {MAX_PERF_EVENT_PARANOID} (`sysctl kernel.perf_event_paranoid={MAX_PERF_EVENT_PARANOID}`)"
            ),
            _ => "it has CAP_BPF and CAP_PERFMON, so a security module or the seccomp filter of a container engine forbids it".to_owned(),
        }
    }

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
        let none = Privileges::default();
        let bpf = Privileges { bpf: true, ..none };
        let both = Privileges {
            perfmon: true,
            ..bpf
        };
        let sys_admin = Privileges {
            sys_admin: true,
            ..none
        };
        assert!(bpf.remedy(Some(3)).contains("grant CAP_PERFMON to"));
        assert!(none.remedy(None).contains("CAP_BPF and CAP_PERFMON"));
        assert!(
            both.remedy(Some(3))
                .contains("kernel.perf_event_paranoid is 3")
        );
        assert!(both.remedy(Some(2)).contains("seccomp"));
        assert!(sys_admin.remedy(Some(4)).contains("seccomp"));
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
