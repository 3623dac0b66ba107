//! Where tracefs is, and mounting it where that is allowed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The kernel's own mount point for tracefs (since 4.1).
const USUAL: &str = "/sys/kernel/tracing";

/// Where tracefs is also found when debugfs is mounted.
const UNDER_DEBUGFS: &str = "/sys/kernel/debug/tracing";

/// A mounted tracefs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracefs {
    root: PathBuf,
}

/// Why there is no tracefs to read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TracefsError {
    /// Not mounted, and mounting it failed.
    #[error(
        "tracefs is not mounted, and mounting it at {USUAL} failed: run `mount -t tracefs tracefs {USUAL}` as root (in a container, mount the host's into it)"
    )]
    NotMounted(#[source] io::Error),
    /// Mounted, but this process may not look into it.
    #[error(
        "tracefs at {} may not be read: run as root, or let your group in with `mount -o remount,gid=GID,mode=750 {}`",
        .root.display(), .root.display()
    )]
    Forbidden {
        /// Where it is.
        root: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Tracefs {
    /// Takes a directory as a tracefs, without looking.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Finds the mounted tracefs, if there is one.
    ///
    /// # Errors
    /// [`TracefsError::Forbidden`] if it is there and may not be read.
    pub fn find() -> Result<Option<Self>, TracefsError> {
        for root in [USUAL, UNDER_DEBUGFS] {
            match fs::metadata(Path::new(root).join("events")) {
                Ok(_) => return Ok(Some(Self::at(root))),
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    // An unreadable debugfs says nothing about a tracefs below it.
                    if root == USUAL {
                        let root = root.into();
                        return Err(TracefsError::Forbidden { root, source });
                    }
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Finds tracefs, or mounts it where it belongs. Says so in the log, since it stays mounted.
    ///
    /// # Errors
    /// See [`TracefsError`].
    pub fn find_or_mount() -> Result<Self, TracefsError> {
        if let Some(found) = Self::find()? {
            return Ok(found);
        }
        rustix::mount::mount(
            "tracefs",
            USUAL,
            "tracefs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .map_err(|error| TracefsError::NotMounted(error.into()))?;
        log::warn!("tracefs was not mounted: mounted it at {USUAL}");
        Ok(Self::at(USUAL))
    }

    /// Its mount point.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
}
