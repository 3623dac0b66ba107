//! The kernel: its release and its settings that restrict tracing.

use std::path::Path;

use serde::Serialize;

use super::files::read_line;

/// Release of the kernel and the settings that restrict tracing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Output of `uname -r`, for display only: features are detected, not derived from the release.
    pub release: String,
    /// The kernel has BTF (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// Lockdown mode; `None` if unknown (no securityfs, or a kernel without lockdown).
    pub lockdown: Option<Lockdown>,
    /// Value of the sysctl `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i32>,
    /// Value of the sysctl `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
}

/// Lockdown mode of the kernel (kernel_lockdown(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// Lockdown is off.
    None,
    /// Root cannot modify the running kernel.
    Integrity,
    /// Root cannot read kernel memory either, which includes tracing.
    Confidentiality,
}

/// Reads the settings of the kernel below `root`.
#[must_use]
pub fn read(root: &Path) -> Kernel {
    let sysctl = |name| read_line(root.join("proc/sys/kernel").join(name));
    Kernel {
        release: sysctl("osrelease").unwrap_or_else(|| "unknown".to_owned()),
        btf: root.join("sys/kernel/btf/vmlinux").exists(),
        lockdown: read_lockdown(root),
        unprivileged_bpf_disabled: sysctl("unprivileged_bpf_disabled")
            .and_then(|text| text.parse().ok()),
        perf_event_paranoid: read_perf_event_paranoid(root),
    }
}

/// Reads the sysctl `kernel.perf_event_paranoid` below `root`; `None` if the kernel has none.
pub(super) fn read_perf_event_paranoid(root: &Path) -> Option<i32> {
    let text = read_line(root.join("proc/sys/kernel/perf_event_paranoid"))?;
    text.parse().ok()
}

/// Reads the lockdown mode below `root`; `None` if it is unknown.
pub(super) fn read_lockdown(root: &Path) -> Option<Lockdown> {
    parse_lockdown(&read_line(root.join("sys/kernel/security/lockdown"))?)
}

/// Parses a line such as `none [integrity] confidentiality`.
fn parse_lockdown(text: &str) -> Option<Lockdown> {
    match text.split_whitespace().find(|word| word.starts_with('['))? {
        "[none]" => Some(Lockdown::None),
        "[integrity]" => Some(Lockdown::Integrity),
        "[confidentiality]" => Some(Lockdown::Confidentiality),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeRoot;

    #[test]
    fn all_settings_are_read() {
        let tree = FakeRoot::new();
        tree.file("proc/sys/kernel/osrelease", "6.1.0-50-amd64\n");
        tree.file("proc/sys/kernel/perf_event_paranoid", "-1\n");
        tree.file("sys/kernel/btf/vmlinux", "");
        tree.file(
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality\n",
        );
        let expected = Kernel {
            release: "6.1.0-50-amd64".to_owned(),
            btf: true,
            lockdown: Some(Lockdown::Integrity),
            unprivileged_bpf_disabled: None,
            perf_event_paranoid: Some(-1),
        };
        assert_eq!(read(tree.path()), expected);
    }

    #[test]
    fn missing_files_leave_settings_unknown() {
        let kernel = read(FakeRoot::new().path());
        assert_eq!(
            kernel,
            Kernel {
                release: "unknown".to_owned(),
                ..Kernel::default()
            }
        );
    }
}
