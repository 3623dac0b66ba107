//! Probe for KVM events: runs the built-in guest and counts its events with perf events.
//!
//! It uses perf events of the guest's threads instead of the collector's eBPF programs, so that problems of the host and of the
//! programs can be distinguished. The kernel looks for threads in the pid namespace of this process, so this also works in a
//! container.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    bounds::read_system_file,
    guest::{Guest, GuestError, Plan},
    probe::ThreadCounter,
};

const EVENTS: [&str; 3] = ["kvm_userspace_exit", "kvm_exit", "kvm_entry"];

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
    /// The built-in guest cannot run.
    #[error("the built-in guest cannot run")]
    Guest(#[from] GuestError),
    /// The id of an event cannot be read.
    #[error("cannot read {}", path.display())]
    Tracefs {
        /// The file.
        path: PathBuf,
        /// Error from the kernel.
        #[source]
        source: io::Error,
    },
    /// An event cannot be counted.
    #[error("cannot count {event} with a perf event")]
    Count {
        /// The event.
        event: &'static str,
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

/// Runs the guest and counts its events.
///
/// # Errors
/// If the guest cannot run, or its events cannot be counted.
pub fn run(tracefs: Option<&Path>) -> Result<EventCounts, TestGuestError> {
    let tracefs = tracefs.ok_or(TestGuestError::NoTracefs)?;
    let plan = Plan {
        exits: 50,
        ..Plan::default()
    };
    let guest = Guest::prepare(&plan)?;
    let threads = guest.threads();
    let vcpus: Vec<_> = threads.vms.iter().flat_map(|vm| &vm.vcpus).collect();
    let mut counters = Vec::new();
    for event in EVENTS {
        let id = read_id(tracefs, event)?;
        let started = vcpus
            .iter()
            .map(|vcpu| ThreadCounter::start(id, vcpu.tid))
            .collect::<io::Result<Vec<_>>>();
        counters.push((event, started.map_err(count_error(event))?));
    }
    let report = guest.run()?;
    let mut counts = [0; EVENTS.len()];
    for (count, (event, counters)) in counts.iter_mut().zip(counters) {
        let values = counters.iter().map(ThreadCounter::read);
        *count = values
            .sum::<io::Result<u64>>()
            .map_err(count_error(event))?;
    }
    let [kvm_userspace_exit, kvm_exit, kvm_entry] = counts;
    let vcpus = report.vms.iter().flat_map(|vm| &vm.vcpus);
    Ok(EventCounts {
        expected_userspace_exits: vcpus.map(|vcpu| vcpu.userspace_exits_total).sum(),
        kvm_userspace_exit,
        kvm_exit,
        kvm_entry,
    })
}

fn read_id(tracefs: &Path, event: &str) -> Result<u16, TestGuestError> {
    let path = tracefs.join("events/kvm").join(event).join("id");
    let id = read_system_file(&path).and_then(|text| text.trim().parse().map_err(io::Error::other));
    id.map_err(|source| TestGuestError::Tracefs { path, source })
}

fn count_error(event: &'static str) -> impl FnOnce(io::Error) -> TestGuestError {
    move |source| TestGuestError::Count { event, source }
}
