//! Names of VMs that a recording contains only after their first events.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use crate::{
    model::{StreamItem, VmName, capacity::MAX_KNOWN_TASKS},
    recording::ReadError,
    source::{PlaybackOptions, RecordedNames, Recording},
};

/// The names of VMs that are known at the end of a recording. It is read to its end once more when the first name is needed. That is
/// rare: a finished file begins with the names of VMs, and processes are usually named before their events.
#[derive(Debug, Default)]
pub struct LaterNames {
    /// The recording, as long as it has not been read.
    path: Option<PathBuf>,
    names: RecordedNames,
    /// Processes that ended without a name. A name that follows is that of another process with the same number.
    unnamed: HashSet<u32>,
}

impl LaterNames {
    /// Returns the names in a recording; `None` is one that cannot be read again, such as a pipe.
    #[must_use]
    pub fn of_recording(path: Option<PathBuf>) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    /// Returns the name of a VM.
    pub(super) fn vm_name(&mut self, tgid: u32) -> Option<VmName> {
        if let Some(path) = self.path.take() {
            // An error would also be that of the conversion.
            let _ = self.read(&path);
        }
        let name = self.names.known_vm_name(tgid)?;
        (!self.unnamed.contains(&tgid)).then_some(name)
    }

    fn read(&mut self, path: &Path) -> Result<(), ReadError> {
        let mut recording = Recording::open(path)?;
        recording.select_events(&[]);
        let unnamed = &mut self.unnamed;
        let summary = recording.play(&PlaybackOptions::default(), |item, context| {
            if let StreamItem::ThreadEnd { tid } = item
                && context.names.known_vm_name(*tid).is_none()
                && unnamed.len() < MAX_KNOWN_TASKS
            {
                unnamed.insert(*tid);
            }
            Ok::<_, ReadError>(())
        })?;
        self.names = summary.names;
        Ok(())
    }
}
