//! The directories that were created for an output.

use std::{ffi::OsString, sync::Arc};

use super::directory::Directory;

/// Directories that this process created, which are removed again when this is dropped, if nothing is in them.
#[derive(Debug, Default)]
pub(super) struct CreatedDirectories(Vec<(Arc<Directory>, OsString)>);

impl CreatedDirectories {
    /// Adds a directory, which is in `parent`.
    pub(super) fn add(&mut self, parent: Arc<Directory>, name: OsString) {
        self.0.push((parent, name));
    }

    /// Keeps the directories.
    pub(super) fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for CreatedDirectories {
    fn drop(&mut self) {
        for (parent, name) in self.0.iter().rev() {
            // Fails if another output is in it, as intended.
            let _ = parent.remove_directory(name);
        }
    }
}
