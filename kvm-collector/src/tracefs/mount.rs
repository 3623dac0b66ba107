//! Finds the mount point of tracefs, and mounts it if necessary.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The usual mount point of tracefs, since Linux 4.1.
pub(super) const MOUNT_POINT: &str = "/sys/kernel/tracing";

/// The second mount point of tracefs, which the kernel provides while debugfs is mounted.
const DEBUGFS_MOUNT_POINT: &str = "/sys/kernel/debug/tracing";

/// A mounted tracefs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracefs {
    root: PathBuf,
}

/// Reasons why tracefs cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracefsError {
    /// It is not mounted, and mounting it failed.
    #[error(
        "tracefs is not mounted, and mounting it at {MOUNT_POINT} failed: run `mount -t tracefs tracefs {MOUNT_POINT}` as root (in a container, bind-mount the host's tracefs)"
    )]
    NotMounted(#[source] io::Error),
    /// It is mounted, but this process has no permission to read it.
    #[error(
        "no permission to read tracefs at {}: {}",
        .root.display(), access_advice(.root)
    )]
    Forbidden {
        /// The mount point.
        root: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// Advice for a tracefs that this process may not read. The mode alone does not help: only the owner and the group may read its
/// files.
#[must_use]
pub fn access_advice(root: &Path) -> String {
    let root = root.display();
    format!(
        "run as root, give your group access with `mount -o remount,gid=GID,mode=750 {root}`, or grant CAP_DAC_READ_SEARCH to kvm-collector"
    )
}

impl Tracefs {
    /// Uses a directory as tracefs. Does not check that it is one.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Finds the mounted tracefs. Returns `None` if it is not mounted.
    ///
    /// # Errors
    /// [`TracefsError::Forbidden`] if this process has no permission to read it.
    pub fn find() -> Result<Option<Self>, TracefsError> {
        for root in [MOUNT_POINT, DEBUGFS_MOUNT_POINT] {
            match fs::metadata(Path::new(root).join("events")) {
                Ok(_) => return Ok(Some(Self::at(root))),
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    // If debugfs is unreadable, tracefs may still not be mounted below it.
                    if root == MOUNT_POINT {
                        let root = root.into();
                        return Err(TracefsError::Forbidden { root, source });
                    }
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Finds tracefs, or mounts it at its usual mount point. Logs that, because it stays mounted.
    ///
    /// # Errors
    /// See [`TracefsError`].
    pub fn find_or_mount() -> Result<Self, TracefsError> {
        if let Some(found) = Self::find()? {
            return Ok(found);
        }
        rustix::mount::mount(
            "tracefs",
            MOUNT_POINT,
            "tracefs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .map_err(|error| TracefsError::NotMounted(error.into()))?;
        log::warn!("tracefs was not mounted; mounted it at {MOUNT_POINT}");
        Ok(Self::at(MOUNT_POINT))
    }

    /// Returns the mount point.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}
