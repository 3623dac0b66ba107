//! Probe for KVM events: runs the built-in guest and counts its events with ftrace.
//!
//! It uses ftrace instead of the collector's eBPF programs, so that problems of the host and of the
//! programs can be distinguished. It creates a temporary tracing instance, so it does not affect other
//! users of ftrace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::bounds::read_system_file;
use crate::guest::{Guest, GuestError, Plan};
use crate::host::process;

const EVENTS: [&str; 3] = ["kvm_userspace_exit", "kvm_exit", "kvm_entry"];
const INSTANCE_PREFIX: &str = "kvm-collector-doctor-";

/// Number of events that fired for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCounts {
    /// Exits to user space that the guest counted.
    pub expected_userspace_exits: u64,
    /// `kvm_userspace_exit` events; normally equal to `expected_userspace_exits`.
    pub kvm_userspace_exit: u64,
    /// `kvm_exit` events.
    pub kvm_exit: u64,
    /// `kvm_entry` events.
    pub kvm_entry: u64,
}

impl EventCounts {
    /// Returns whether both events that `exits` measures, `kvm_exit` and `kvm_entry`, fired.
    #[must_use]
    pub fn exit_events_fire(&self) -> bool {
        self.kvm_exit > 0 && self.kvm_entry > 0
    }
}

/// Reason why the probe failed.
#[derive(Debug, thiserror::Error)]
pub enum TestGuestError {
    /// tracefs is not mounted.
    #[error("tracefs is not mounted")]
    NoTracefs,
    /// The kernel's thread ids of the guest are unknown, so ftrace cannot filter by them.
    #[error("the kernel's ids of the guest's threads are unknown: see pid namespace")]
    ForeignIds,
    /// The built-in guest cannot run.
    #[error("the built-in guest cannot run")]
    Guest(#[from] GuestError),
    /// A file of the tracing instance cannot be used.
    #[error("cannot use {}", path.display())]
    Tracefs {
        /// The file or directory.
        path: PathBuf,
        /// Error from the kernel.
        #[source]
        source: io::Error,
    },
}

impl TestGuestError {
    /// Returns the message of this error and of its causes, in one line.
    #[must_use]
    pub fn message_with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// Runs the guest while ftrace is active, and counts its events.
///
/// # Errors
/// If the guest cannot run, or ftrace cannot be used.
pub fn run(tracefs: Option<&Path>) -> Result<EventCounts, TestGuestError> {
    let tracefs = tracefs.ok_or(TestGuestError::NoTracefs)?;
    let own_id = kernel_tid(std::process::id())?;
    let plan = Plan {
        exits: 50,
        ..Plan::default()
    };
    let guest = Guest::prepare(&plan)?;
    let instance = TraceInstance::new(tracefs, own_id)?;
    let threads = guest.threads();
    let tids = threads
        .vms
        .iter()
        .flat_map(|vm| &vm.vcpus)
        .map(|vcpu| Ok(kernel_tid(vcpu.tid)?.to_string()));
    let tids = tids.collect::<Result<Vec<_>, TestGuestError>>()?;
    instance.write("set_event_pid", &tids.join(" "))?;
    for event in EVENTS {
        instance.write(&format!("events/kvm/{event}/enable"), "1")?;
    }
    let report = guest.run()?;
    instance.write("tracing_on", "0")?;

    let trace = instance.read("trace")?;
    let count = |event| {
        trace
            .lines()
            .filter(|line| line.contains(&format!(": {event}: ")))
            .count() as u64
    };
    let [userspace_exit, exit, entry] = EVENTS.map(count);
    let expected_userspace_exits = report
        .vms
        .iter()
        .flat_map(|vm| &vm.vcpus)
        .map(|vcpu| vcpu.userspace_exits_total)
        .sum();
    Ok(EventCounts {
        expected_userspace_exits,
        kvm_userspace_exit: userspace_exit,
        kvm_exit: exit,
        kvm_entry: entry,
    })
}

/// Returns the kernel's id of a thread of this process.
fn kernel_tid(tid: u32) -> Result<u32, TestGuestError> {
    process::own_kernel_id(tid).ok_or(TestGuestError::ForeignIds)
}

/// ftrace instance that is removed when it is dropped.
#[derive(Debug)]
struct TraceInstance {
    path: PathBuf,
}

impl TraceInstance {
    fn new(tracefs: &Path, own_id: u32) -> Result<Self, TestGuestError> {
        let instances = tracefs.join("instances");
        remove_orphaned_instances(&instances);
        let path = instances.join(format!("{INSTANCE_PREFIX}{own_id}"));
        fs::create_dir(&path).map_err(|source| TestGuestError::Tracefs {
            path: path.clone(),
            source,
        })?;
        Ok(Self { path })
    }

    fn write(&self, file: &str, text: &str) -> Result<(), TestGuestError> {
        let path = self.path.join(file);
        fs::write(&path, text).map_err(|source| TestGuestError::Tracefs { path, source })
    }

    fn read(&self, file: &str) -> Result<String, TestGuestError> {
        let path = self.path.join(file);
        read_system_file(&path).map_err(|source| TestGuestError::Tracefs { path, source })
    }
}

impl Drop for TraceInstance {
    fn drop(&mut self) {
        // The kernel also disables the events of the instance.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Removes the instances of `doctor` processes that were killed.
fn remove_orphaned_instances(instances: &Path) {
    for entry in fs::read_dir(instances)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(INSTANCE_PREFIX));
        let pid = pid.and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| !process::is_process(pid)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
