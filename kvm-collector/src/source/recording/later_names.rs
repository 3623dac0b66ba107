//! Names of VMs that a recording contains only after their first events.

use std::{
    cell::OnceCell,
    collections::HashMap,
    path::{Path, PathBuf},
};

use crate::model::VmName;

/// Reads a recording to its end, and returns the names of its processes.
pub(super) type ReadNames = fn(&Path) -> HashMap<u32, VmName>;

/// The names that are known at the end of a recording. It is read to its end once more when the first name is needed. That is rare: a
/// finished file begins with the names of VMs, and processes are usually named before their events.
#[derive(Debug, Default)]
pub(super) struct LaterNames {
    /// The recording, and how to read it; `None` if it cannot be read again, such as a pipe.
    recording: Option<(PathBuf, ReadNames)>,
    names: OnceCell<HashMap<u32, VmName>>,
}

impl LaterNames {
    /// Returns the names in a recording that can be read again.
    pub(super) fn new(path: &Path, read: ReadNames) -> Self {
        Self {
            recording: Some((path.to_owned(), read)),
            names: OnceCell::new(),
        }
    }

    /// Returns the name of a process.
    pub(super) fn find(&self, tgid: u32) -> Option<&VmName> {
        let (path, read) = self.recording.as_ref()?;
        self.names.get_or_init(|| read(path)).get(&tgid)
    }
}
