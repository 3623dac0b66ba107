//! What a command requests from the eBPF programs.

use kvm_ebpf_common::{MAX_FILTER_IDS, MAX_SLOTS};

use super::sizes::{MAX_RING_BYTES, MapSizes};
use crate::{
    timing::{Filter, TimingError, TimingRequest},
    tracefs::Format,
};

/// What a command wants to measure.
#[derive(Debug)]
pub struct Request<'a> {
    /// The events to count. The slot of an event is its index here.
    pub events: &'a [Format],
    /// Also send each event to user space through the rings.
    pub emit: bool,
    /// Also count per thread.
    pub per_thread: bool,
    /// Also time VM exits.
    pub timing: Option<&'a TimingRequest>,
    /// Format of `kvm_entry`, if the kernel has that event. It has the index of the vCPU that a thread runs.
    pub entry_format: Option<&'a Format>,
    /// Which events are selected.
    pub filter: &'a Filter,
    /// Processes can be excluded later, by [`AttachedPrograms::skip_process`](super::AttachedPrograms::skip_process).
    pub skip_processes: bool,
    /// Sizes of maps and rings.
    pub sizes: MapSizes,
    /// Log messages of the eBPF programs are requested.
    pub log: bool,
}

impl Request<'_> {
    /// Returns whether events are selected by the thread or process in which they occur.
    pub(super) fn needs_task(&self) -> bool {
        self.skip_processes || self.filter.is_by_task()
    }
}

/// Reason why a request cannot be satisfied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// More events are selected than slots exist.
    #[error(
        "{selected} events selected, but at most {MAX_SLOTS} can be counted at once: select fewer with -e"
    )]
    TooManyEvents {
        /// Number of selected items.
        selected: usize,
    },
    /// More ids are selected than the filter can hold.
    #[error(
        "{selected} {ids} selected, but a filter holds at most {MAX_FILTER_IDS}: select fewer, or all"
    )]
    TooManyIds {
        /// Kind of the ids, for the message.
        ids: &'static str,
        /// Number of selected items.
        selected: usize,
    },
    /// Exits cannot be timed as requested.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// Invalid ring size.
    #[error("invalid ring size of {0} bytes: give a power of two from 4096 to {MAX_RING_BYTES}")]
    RingBytes(u32),
}
