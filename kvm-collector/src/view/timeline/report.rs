//! The report of a timeline.

use serde::Serialize;

/// A part of a vCPU's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimePart {
    /// In the guest.
    Guest,
    /// In the kernel, on behalf of the guest.
    Kernel,
    /// In the VMM's user space.
    Vmm,
    /// Halted.
    Halted,
    /// Runnable, but not running.
    Preempted,
    /// In an exit that was still in progress at the end of the recording.
    Open,
}

impl TimePart {
    /// All parts, in the order of [`TimelineTrack::parts_ns`].
    pub const ALL: [Self; 6] = [
        Self::Guest,
        Self::Kernel,
        Self::Vmm,
        Self::Halted,
        Self::Preempted,
        Self::Open,
    ];

    /// Returns the name in legends and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Kernel => "kernel",
            Self::Vmm => "VMM",
            Self::Halted => "halted",
            Self::Preempted => "preempted",
            Self::Open => "open",
        }
    }
}

/// Exits and times of a vCPU per bin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineTrack {
    /// Name of the VM; empty for the track that several vCPUs share.
    pub vm: String,
    /// PID of the VMM; 0 for the track that several vCPUs share.
    pub pid: u32,
    /// Index of the vCPU, if known.
    pub vcpu: Option<u32>,
    /// TID of the vCPU thread, if the index is not known; else 0.
    pub tid: u32,
    /// Number of exits that started, per bin.
    pub exits: Vec<u64>,
    /// Time by part and bin, in the order of [`TimePart::ALL`].
    pub parts_ns: [Vec<u64>; 6],
}

/// A recording in bins of equal length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineReport {
    /// Time of the first event, in ns of the clock of the events; `None` if there is none.
    pub start_ns: Option<u64>,
    /// Time from the first to the last event.
    pub elapsed_ns: u64,
    /// Length of a bin: 1, 2 or 5 times a power of ten. The last bin may be shorter.
    pub bin_ns: u64,
    /// Number of bins.
    pub bins: usize,
    /// Number of events per bin.
    pub events: Vec<u64>,
    /// Number of lost events per bin, at the time at which the recording reports the loss.
    pub lost: Vec<u64>,
    /// A track per vCPU.
    pub tracks: Vec<TimelineTrack>,
    /// Number of vCPUs that share the last track; 0 if none do.
    pub merged_vcpus: usize,
}
