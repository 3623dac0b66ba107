//! Reads how often and for how long the programs ran, and the size of the maps, from the kernel.

use std::{fs, io, os::fd::OwnedFd, path::Path, time::Duration};

use aya::sys::{Stats, enable_stats};

use super::{AttachedPrograms, ProbeError};
use crate::bounds::read_system_file;

/// Keeps the kernel's run statistics enabled. They cost two readings of the clock for each run of a program.
#[derive(Debug)]
pub struct RunStatistics(
    #[expect(dead_code, reason = "closing the descriptor disables the statistics")] OwnedFd,
);

impl RunStatistics {
    /// Enables the statistics for all programs on this machine.
    ///
    /// # Errors
    /// If the kernel does not permit it, or is older than 5.8.
    pub fn enable() -> io::Result<Self> {
        enable_stats(Stats::RunTime)
            .map(Self)
            .map_err(io::Error::other)
    }
}

/// The runs of one program while [`RunStatistics`] were enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramRuns {
    /// Name in the object.
    pub program: String,
    /// The event that the program is attached to, such as `kvm:kvm_exit`.
    pub event: String,
    /// Number of runs.
    pub runs: u64,
    /// Total time of these runs.
    pub time: Duration,
}

impl AttachedPrograms {
    /// Returns the runs of each attached program.
    ///
    /// # Errors
    /// If the kernel does not report them.
    pub fn runs(&self) -> Result<Vec<ProgramRuns>, ProbeError> {
        let runs = |program: &super::attach::AttachedProgram| {
            let missing = || ProbeError::Missing(program.name.clone());
            let loaded = self.ebpf.program(&program.name).ok_or_else(missing)?;
            let info = loaded.info().map_err(|source| ProbeError::Program {
                event: program.event.clone(),
                source,
            })?;
            Ok(ProgramRuns {
                program: program.name.clone(),
                event: program.event.clone(),
                runs: info.run_count(),
                time: info.run_time(),
            })
        };
        self.programs.iter().map(runs).collect()
    }
}

/// Returns how much kernel memory the maps of this process use, in bytes. The kernel reports it for each descriptor
/// (`memlock`; an estimate before Linux 6.4).
///
/// # Errors
/// If `/proc` cannot be read.
pub fn map_memory_bytes() -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(Path::new("/proc/self/fdinfo"))? {
        // A descriptor may be closed by now. That of this folder always is.
        let text = read_system_file(entry?.path()).unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if value("map_id:").is_some() {
            bytes += value("memlock:").unwrap_or(0);
        }
    }
    Ok(bytes)
}
