//! The experiment: the built-in guest makes exits while the kernel's own tracer counts the events.
//!
//! ftrace and not our eBPF programs, so that a fault of theirs cannot hide one of the host, and the other way round.
//! It happens in a tracing instance of its own that is gone afterwards; nobody else's tracing is touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::guest::{Guest, GuestError, Kind, Plan};
use crate::host::process;

const EVENTS: [&str; 3] = ["kvm_userspace_exit", "kvm_exit", "kvm_entry"];
const PREFIX: &str = "kvm-collector-doctor-";

/// How often the events fired for a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Exits to user space the guest made.
    pub made: u64,
    /// `kvm_userspace_exit` events: as many, if all is well.
    pub userspace_exit: u64,
    /// `kvm_exit` events.
    pub exit: u64,
    /// `kvm_entry` events.
    pub entry: u64,
}

impl Fired {
    /// Whether both events fire that an exit is measured by.
    #[must_use]
    pub fn exits(&self) -> bool {
        self.exit > 0 && self.entry > 0
    }
}

/// Why it could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing to count with.
    #[error("tracefs is not mounted")]
    NoTracefs,
    /// The tracer selects threads by the kernel's ids.
    #[error("the guest's threads cannot be selected: see pid namespace")]
    ForeignIds,
    /// The guest cannot run.
    #[error("the built-in guest cannot run")]
    Guest(#[from] GuestError),
    /// The tracer cannot be set up or read.
    #[error("cannot use {}", path.display())]
    Tracefs {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl ProbeError {
    /// The error with its causes, in one line.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Runs a guest under ftrace and counts its events.
///
/// # Errors
/// When the guest cannot run, or ftrace cannot be used.
pub fn run(tracefs: Option<&Path>) -> Result<Fired, ProbeError> {
    let tracefs = tracefs.ok_or(ProbeError::NoTracefs)?;
    let own_id = kernel_id(std::process::id())?;
    let plan = Plan {
        kinds: vec![Kind::Io, Kind::Cpuid],
        exits: 50,
        ..Plan::default()
    };
    let guest = Guest::prepare(&plan)?;
    let instance = Instance::new(tracefs, own_id)?;
    let roster = guest.roster();
    let tids = roster
        .vms
        .iter()
        .flat_map(|vm| &vm.vcpus)
        .map(|vcpu| Ok(kernel_id(vcpu.tid)?.to_string()));
    let tids = tids.collect::<Result<Vec<_>, ProbeError>>()?;
    instance.write("set_event_pid", &tids.join(" "))?;
    for event in EVENTS {
        instance.write(&format!("events/kvm/{event}/enable"), "1")?;
    }
    let made = guest.run()?;
    instance.write("tracing_on", "0")?;

    let trace = instance.read("trace")?;
    let count = |event| {
        trace
            .lines()
            .filter(|line| line.contains(&format!(": {event}: ")))
            .count() as u64
    };
    let [userspace_exit, exit, entry] = EVENTS.map(count);
    let made = made
        .vms
        .iter()
        .flat_map(|vm| &vm.vcpus)
        .map(|vcpu| vcpu.userspace_exits_total)
        .sum();
    Ok(Fired {
        made,
        userspace_exit,
        exit,
        entry,
    })
}

/// The kernel's id of a thread of this process.
fn kernel_id(tid: u32) -> Result<u32, ProbeError> {
    process::own_kernel_id(tid).ok_or(ProbeError::ForeignIds)
}

/// A tracing instance that is removed when dropped.
#[derive(Debug)]
struct Instance {
    path: PathBuf,
}

impl Instance {
    fn new(tracefs: &Path, own_id: u32) -> Result<Self, ProbeError> {
        let instances = tracefs.join("instances");
        remove_orphans(&instances);
        let path = instances.join(format!("{PREFIX}{own_id}"));
        fs::create_dir(&path).map_err(|source| ProbeError::Tracefs {
            path: path.clone(),
            source,
        })?;
        Ok(Self { path })
    }

    fn write(&self, file: &str, text: &str) -> Result<(), ProbeError> {
        let path = self.path.join(file);
        fs::write(&path, text).map_err(|source| ProbeError::Tracefs { path, source })
    }

    fn read(&self, file: &str) -> Result<String, ProbeError> {
        let path = self.path.join(file);
        fs::read_to_string(&path).map_err(|source| ProbeError::Tracefs { path, source })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The kernel turns the instance's events off with it.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Removes what a doctor left that was killed.
fn remove_orphans(instances: &Path) {
    for entry in fs::read_dir(instances)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let pid = pid.and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !process::is_process(pid)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
