//! Processes that the eBPF programs skip, because user space has excluded them.
//!
//! User space reads a VM's name some time after the first event of its process. Until then the process is not skipped,
//! so no event is lost, and user space drops the events of VMs that are not selected. Afterwards an excluded VM costs
//! only the lookup in this map.

use std::io;

use aya::maps::{HashMap, MapData, MapError};

use super::{attach::AttachedPrograms, error::ProbeError, load::SKIPPED_PROCESSES};
use crate::host;

impl AttachedPrograms {
    /// Skips all further events of a process until it ends or `AttachedPrograms::unskip_process` is called. The request must
    /// have set [`skip_processes`](super::Request::skip_processes).
    ///
    /// If the map is full, the process is not skipped, which only costs time.
    ///
    /// # Errors
    /// If the map cannot be written.
    pub fn skip_process(&mut self, tgid: u32) -> Result<(), ProbeError> {
        match self.skipped()?.insert(tgid, 1, 0) {
            Ok(()) => {}
            Err(source) if has_errno(&source, libc::E2BIG) => return Ok(()),
            Err(source) => return Err(failed(source)),
        }
        // Check after the insertion: if the process ended before it, no program removes the entry, and another process
        // may get the pid.
        if host::process::is_running(tgid) {
            Ok(())
        } else {
            self.remove_skipped(tgid)
        }
    }

    /// Stops skipping a process. An exit that was in progress when the process was skipped is not counted.
    ///
    /// # Errors
    /// If the map cannot be written.
    #[cfg(feature = "test-api")]
    pub fn unskip_process(&mut self, tgid: u32) -> Result<(), ProbeError> {
        if self.skipped()?.get(&tgid, 0).is_err() {
            return Ok(());
        }
        // While the process is skipped, no program changes the state of its threads.
        if let Some(tables) = &mut self.tables {
            tables.discard_open_intervals(tgid);
        }
        self.remove_skipped(tgid)
    }

    /// Returns the ids of the processes that are skipped.
    ///
    /// # Errors
    /// If the map cannot be read.
    #[cfg(feature = "test-api")]
    pub fn skipped_processes(&self) -> Result<Vec<u32>, ProbeError> {
        let map = self.ebpf.map(SKIPPED_PROCESSES);
        let map = map.ok_or_else(|| ProbeError::Missing(SKIPPED_PROCESSES.to_owned()))?;
        let map: HashMap<_, u32, u32> = HashMap::try_from(map).map_err(failed)?;
        map.keys().collect::<Result<_, _>>().map_err(failed)
    }

    fn remove_skipped(&mut self, tgid: u32) -> Result<(), ProbeError> {
        match self.skipped()?.remove(&tgid) {
            // A program removed it when the process ended.
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
