//! Adds files of the host to an archive.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::cpio::Archive;

/// Adds one file with its permissions. Follows symbolic links.
pub(super) fn add_file(archive: &mut Archive, host: &Path, guest: &str) -> Result<()> {
    let bytes = fs::read(host).with_context(|| format!("cannot read {}", host.display()))?;
    let permissions = fs::metadata(host)?.permissions().mode();
    archive.add_file(guest, permissions, &bytes);
    Ok(())
}

/// Adds everything below `root/folder`. Keeps symbolic links.
pub(super) fn add_tree(archive: &mut Archive, root: &Path, folder: &Path) -> Result<()> {
    let dir = root.join(folder);
    let mut entries: Vec<PathBuf> = fs::read_dir(&dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| entry.map(|entry| folder.join(entry.file_name())))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for path in entries {
        let host = root.join(&path);
        let guest = path.to_string_lossy();
        if host.is_symlink() {
            archive.add_symlink(&guest, &fs::read_link(&host)?.to_string_lossy());
        } else if host.is_dir() {
            add_tree(archive, root, &path)?;
        } else {
            add_file(archive, &host, &guest)?;
        }
    }
    Ok(())
}
