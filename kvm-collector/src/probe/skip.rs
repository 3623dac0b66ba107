//! Processes that the programs skip, since user space has decided against them.
//!
//! A VM's name is found in user space, some time after its first event. Until then its process is not skipped, so that
//! nothing is lost; user space drops what it has not selected. Afterwards a VM that is not selected costs no more than
//! the look into this table.

use std::io;

use aya::maps::{HashMap, MapData, MapError};

use super::{Attached, ProbeError};
use crate::host;

/// The table's name.
pub(super) const SKIPPED_PROCESSES: &str = "SKIPPED_PROCESSES";

/// How many processes it holds, where it is needed.
pub(super) const MOST_SKIPPED: u32 = 16_384;

impl Attached {
    /// Skips all further events of a process, until it ends or [`Attached::unskip_process`]. The request must have set
    /// [`skip_processes`](super::Request::skip_processes).
    ///
    /// When the table is full, the process is not skipped: it only costs more.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn skip_process(&mut self, tgid: u32) -> Result<(), ProbeError> {
        match self.skipped()?.insert(tgid, 1, 0) {
            Ok(()) => {}
            Err(source) if has_errno(&source, libc::E2BIG) => return Ok(()),
            Err(source) => return Err(failed(source)),
        }
        // Only now: had it ended before, nobody would remove it, and another process may get its number.
        if host::process::is_running(tgid) {
            Ok(())
        } else {
            self.remove_skipped(tgid)
        }
    }

    #[cfg(feature = "test-api")]
    /// No longer skips a process. An exit that was in progress when the process was skipped is not counted.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn unskip_process(&mut self, tgid: u32) -> Result<(), ProbeError> {
        if self.skipped()?.get(&tgid, 0).is_err() {
            return Ok(());
        }
        // While the process is skipped, no program changes the state of its threads.
        if let Some(tables) = &mut self.tables {
            tables.interrupt(tgid);
        }
        self.remove_skipped(tgid)
    }

    #[cfg(feature = "test-api")]
    /// The processes that are skipped.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn skipped_processes(&self) -> Result<Vec<u32>, ProbeError> {
        let map = self.ebpf.map(SKIPPED_PROCESSES);
        let map = map.ok_or_else(|| ProbeError::Missing(SKIPPED_PROCESSES.to_owned()))?;
        let map: HashMap<_, u32, u32> = HashMap::try_from(map).map_err(failed)?;
        map.keys().collect::<Result<_, _>>().map_err(failed)
    }

    fn remove_skipped(&mut self, tgid: u32) -> Result<(), ProbeError> {
        match self.skipped()?.remove(&tgid) {
            // The process has ended.
            Err(MapError::KeyNotFound) => Ok(()),
            Err(source) if has_errno(&source, libc::ENOENT) => Ok(()),
            result => result.map_err(failed),
        }
    }

    fn skipped(&mut self) -> Result<HashMap<&mut MapData, u32, u32>, ProbeError> {
        let map = self.ebpf.map_mut(SKIPPED_PROCESSES);
        let map = map.ok_or_else(|| ProbeError::Missing(SKIPPED_PROCESSES.to_owned()))?;
        HashMap::try_from(map).map_err(failed)
    }
}

fn failed(source: MapError) -> ProbeError {
    ProbeError::Map {
        name: SKIPPED_PROCESSES,
        source,
    }
}

fn has_errno(error: &MapError, errno: i32) -> bool {
    let mut next = Some(error as &(dyn std::error::Error + 'static));
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error() == Some(errno);
        }
        next = error.source();
    }
    false
}
