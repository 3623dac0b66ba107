//! What this process may do.

use caps::{CapSet, Capability};
use serde::Serialize;

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
