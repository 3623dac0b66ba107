//! The kernel: its release and what it is set to allow.

use std::path::Path;

use serde::Serialize;

use super::line;

/// What the kernel is and how it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// As `uname -r` says. For people only: what a kernel can do is found out by looking.
    pub release: String,
    /// Whether the kernel describes its own types (`/sys/kernel/btf/vmlinux`).
    pub btf: bool,
    /// What of the kernel is closed to root; `None` when it does not say (no securityfs, or built without).
    pub lockdown: Option<Lockdown>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i32>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
}

/// How much of the kernel is closed to root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lockdown {
    /// Nothing.
    None,
    /// Changing the running kernel.
    Integrity,
    /// Also reading from it, which tracing does.
    Confidentiality,
}

/// Reads what the kernel of the machine at `root` is and how it is set.
#[must_use]
pub fn read(root: &Path) -> Kernel {
    let sysctl = |name| line(root.join("proc/sys/kernel").join(name));
    Kernel {
        release: sysctl("osrelease").unwrap_or_else(|| "unknown".to_owned()),
        btf: root.join("sys/kernel/btf/vmlinux").exists(),
        lockdown: lockdown_of(root),
        unprivileged_bpf_disabled: sysctl("unprivileged_bpf_disabled")
            .and_then(|text| text.parse().ok()),
        perf_event_paranoid: sysctl("perf_event_paranoid").and_then(|text| text.parse().ok()),
    }
}

/// What of the kernel of the machine at `root` is closed to root; `None` when it does not say.
pub(super) fn lockdown_of(root: &Path) -> Option<Lockdown> {
    lockdown(&line(root.join("sys/kernel/security/lockdown"))?)
}

/// The chosen one of `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Option<Lockdown> {
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
    use crate::host::fake::Tree;

    #[test]
    fn reads_what_is_there() {
        let tree = Tree::new();
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
    fn an_empty_machine_has_no_facts() {
        let kernel = read(Tree::new().path());
        assert_eq!(
            kernel,
            Kernel {
                release: "unknown".to_owned(),
                ..Kernel::default()
            }
        );
    }
}
