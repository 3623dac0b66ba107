//! How often the programs ran, and for how long, as the kernel counts it.

use std::{fs, io, os::fd::OwnedFd, path::Path, time::Duration};

use aya::sys::{Stats, enable_stats};

use super::{AttachedPrograms, ProbeError};

/// The kernel counts runs while this is there; it takes two more readings of the clock for each.
#[derive(Debug)]
pub struct RunStatistics(#[expect(dead_code, reason = "closing it ends the counting")] OwnedFd);

impl RunStatistics {
    /// Begins to count, for all programs on this machine.
    ///
    /// # Errors
    /// Where the kernel does not allow it, or cannot (before Linux 5.8).
    pub fn enable() -> io::Result<Self> {
        enable_stats(Stats::RunTime)
            .map(Self)
            .map_err(io::Error::other)
    }
}

/// Of one program, all its runs while [`RunStatistics`] were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramRuns {
    /// Its name in the object.
    pub program: String,
    /// The event it is attached to, as `kvm:kvm_exit`.
    pub event: String,
    /// How often it ran.
    pub runs: u64,
    /// How long that took.
    pub time: Duration,
}

impl AttachedPrograms {
    /// The runs of each attached program.
    ///
    /// # Errors
    /// When the kernel does not say.
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

/// What the maps of this process take of the kernel's memory, in bytes, as the kernel says it of each descriptor
/// (`memlock`; before Linux 6.4, its estimate).
///
/// # Errors
/// When `/proc` cannot be read.
pub fn map_memory_bytes() -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(Path::new("/proc/self/fdinfo"))? {
        // A descriptor may be gone by now: that of this very folder is.
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
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
