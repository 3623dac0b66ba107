//! Options, context and result of the playback of a recording.

use super::{names::RecordedNames, time_limits::TimeLimits};
use crate::{
    model::{Loss, VmName},
    timing::Selection,
};

/// What is requested of a recording.
#[derive(Debug, Clone, Default)]
pub struct PlaybackOptions {
    /// The selected events.
    pub selection: Selection,
    /// The requested range of the recording, and the report intervals.
    pub limits: TimeLimits,
    /// Whether the records of events are not needed. Leaving them out takes less time and memory.
    pub without_raw: bool,
}

/// What is known about a recording when an item is emitted.
#[derive(Debug, Clone, Copy)]
pub struct PlaybackContext<'a> {
    /// Names of threads and VMs.
    pub names: &'a RecordedNames,
    /// Losses so far.
    pub loss: &'a Loss,
    /// Number of events emitted so far.
    pub events: u64,
    /// The start of the requested range: the time of the recording's first event, selected or not, or a
    /// later one.
    pub start_ns: Option<u64>,
    /// Whether the item is before the requested range.
    pub is_before_range: bool,
    /// The index of the vCPU that the event concerns. `None` if it is not known, or without
    /// [`Recording::identify_vcpus`](super::Recording::identify_vcpus).
    pub vcpu: Option<u32>,
}

/// What a recording contained.
#[derive(Debug, Default)]
pub struct RecordingSummary {
    /// The start and the end of what was read, in ns of the clock of the events: from the first to the
    /// last event of the recording, selected or not, or the requested range of it. `None` if the
    /// recording has no events.
    pub period_ns: Option<(u64, u64)>,
    /// The times of the first and the last event of the recording, if the requested range is outside of
    /// it.
    pub outside: Option<(u64, u64)>,
    /// Whether the requested range ended before the recording.
    pub ended_early: bool,
    /// Number of events in the requested range.
    pub events: u64,
    /// Lost events and damaged records in the requested range.
    pub loss: Loss,
    /// A message that says why the recording is incomplete; `None` if it is complete.
    pub defect: Option<String>,
    /// Names of threads and VMs at the last event.
    pub names: RecordedNames,
    /// The processes that had an event of KVM, selected or not, or a selected event of another system.
    /// Empty unless VMs are identified, as with a selection by process.
    pub processes: Vec<RecordedProcess>,
}

/// A process that had events.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordedProcess {
    /// Its process id.
    pub pid: u32,
    /// The name of its VM, or one that is made from the name of the process.
    pub vm: VmName,
    /// Whether it is a VM, see [`RecordedNames::is_vm`].
    pub is_vm: bool,
}
