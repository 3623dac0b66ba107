//! Mount point of tracefs, and the number of KVM events in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::read_line;

/// A mounted tracefs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tracefs {
    /// Mount point.
    pub path: PathBuf,
    /// This process can read it.
    pub readable: bool,
    /// Number of events in the group `kvm`: 0 until the kvm module is loaded.
    pub kvm_events: usize,
    /// Number of events in the group `kvmmmu`.
    pub kvmmmu_events: usize,
}

/// Finds the tracefs below `root`; `None` if none is mounted.
#[must_use]
pub fn read(root: &Path) -> Option<Tracefs> {
    let mounted = mount_point(&read_line(root.join("proc/self/mounts"))?)?;
    let path = root.join(mounted.strip_prefix("/").unwrap_or(&mounted));
    let events = path.join("events");
    Some(Tracefs {
        readable: fs::read_dir(&events).is_ok(),
        kvm_events: count(&events.join("kvm")).unwrap_or_default(),
        kvmmmu_events: count(&events.join("kvmmmu")).unwrap_or_default(),
        path,
    })
}

/// Chooses the usual mount point if tracefs is mounted there, otherwise the first one. Falls back to
/// debugfs, below which the kernel mounts tracefs at the first access.
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

/// Counts the events of a group: its subdirectories.
fn count(group: &Path) -> io::Result<usize> {
    Ok(fs::read_dir(group)?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().is_dir())
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeRoot;

    #[test]
    fn the_usual_mount_point_and_its_events_are_found() {
        let tree = FakeRoot::new();
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
    fn tracefs_below_debugfs_is_found() {
        let mounts = "debugfs /sys/kernel/debug debugfs rw 0 0\n";
        assert_eq!(
            mount_point(mounts),
            Some(PathBuf::from("/sys/kernel/debug/tracing"))
        );
        assert_eq!(mount_point("proc /proc proc rw 0 0\n"), None);
    }
}
