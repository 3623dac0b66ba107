//! Where the kernel's tracing files are, and which of KVM's events they have.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::line;

/// A mounted tracefs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tracefs {
    /// Where.
    pub path: PathBuf,
    /// Whether we may look into it.
    pub readable: bool,
    /// Events of the group `kvm`: none until the kvm module is loaded.
    pub kvm_events: usize,
    /// Events of the group `kvmmmu`.
    pub kvmmmu_events: usize,
}

/// Finds the tracefs of the machine at `root`; `None` when none is mounted.
#[must_use]
pub fn read(root: &Path) -> Option<Tracefs> {
    let mounted = mount_point(&line(root.join("proc/self/mounts"))?)?;
    let path = root.join(mounted.strip_prefix("/").unwrap_or(&mounted));
    let events = path.join("events");
    Some(Tracefs {
        readable: fs::read_dir(&events).is_ok(),
        kvm_events: count(&events.join("kvm")).unwrap_or_default(),
        kvmmmu_events: count(&events.join("kvmmmu")).unwrap_or_default(),
        path,
    })
}

/// The place everybody expects if it is among those mounted, else the first. Below debugfs it mounts itself when
/// somebody goes there.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    const USUAL: &str = "/sys/kernel/tracing";

    let of_type = |kind: &str| -> Vec<&str> {
        let fields = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        fields
            .filter(|fields| fields.get(2) == Some(&kind))
            .filter_map(|fields| fields.get(1).copied())
            .collect()
    };
    let tracefs = of_type("tracefs");
    let chosen = tracefs
        .iter()
        .find(|&&path| path == USUAL)
        .or(tracefs.first());
    chosen
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(of_type("debugfs").first()?).join("tracing")))
}

/// Every directory of a group is an event.
fn count(group: &Path) -> io::Result<usize> {
    Ok(fs::read_dir(group)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Tree;

    #[test]
    fn finds_the_usual_place_and_its_events() {
        let tree = Tree::new();
        tree.file(
            "proc/self/mounts",
            "none /mnt tracefs rw 0 0\nnone /sys/kernel/tracing tracefs rw 0 0\n",
        );
        tree.file("sys/kernel/tracing/events/kvm/kvm_exit/format", "");
        tree.file("sys/kernel/tracing/events/kvm/kvm_entry/format", "");
        tree.file("sys/kernel/tracing/events/kvm/enable", "0\n");
        let expected = Tracefs {
            path: tree.path().join("sys/kernel/tracing"),
            readable: true,
            kvm_events: 2,
            kvmmmu_events: 0,
        };
        assert_eq!(read(tree.path()), Some(expected));
    }

    #[test]
    fn below_debugfs_when_only_that_is_mounted() {
        let mounts = "debugfs /sys/kernel/debug debugfs rw 0 0\n";
        assert_eq!(
            mount_point(mounts),
            Some(PathBuf::from("/sys/kernel/debug/tracing"))
        );
        assert_eq!(mount_point("proc /proc proc rw 0 0\n"), None);
    }
}
