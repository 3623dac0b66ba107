//! What a timeline gives.

use serde::Serialize;

/// Where a vCPU's time can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimePart {
    /// In the guest.
    Guest,
    /// In the kernel on its behalf.
    Kernel,
    /// In the VMM's user space.
    Vmm,
    /// Halted.
    Halted,
    /// Ready but not running.
    Preempted,
    /// Out of the guest since its last event, and not back at the end: for what, is not known.
    Open,
}

impl TimePart {
    /// All of them, in the order in which they are shown and in which [`TimelineTrack::parts_ns`] has them.
    pub const ALL: [Self; 6] = [
        Self::Guest,
        Self::Kernel,
        Self::Vmm,
        Self::Halted,
        Self::Preempted,
        Self::Open,
    ];

    /// What it is called.
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

/// What a vCPU did, bin by bin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineTrack {
    /// The VM's name; empty for all vCPUs that are not told apart.
    pub vm: String,
    /// The VMM's process.
    pub pid: u32,
    /// The vCPU's index, where known.
    pub vcpu: Option<u32>,
    /// Its thread.
    pub tid: u32,
    /// How many exits began.
    pub exits: Vec<u64>,
    /// How much of the time went where, in the order of [`TimePart::ALL`].
    pub parts_ns: [Vec<u64>; 6],
}

/// A recording, bin by bin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineReport {
    /// From its first event to its last.
    pub elapsed_ns: u64,
    /// How long a bin is; the last one may be shorter.
    pub bin_ns: u64,
    /// How many there are.
    pub bins: usize,
    /// Events, of all kinds.
    pub events: Vec<u64>,
    /// Events that are missing, at the place where the recording says so.
    pub lost: Vec<u64>,
    /// The vCPUs.
    pub tracks: Vec<TimelineTrack>,
    /// vCPUs that are not told apart: the last of `tracks` is all of them.
    pub together: usize,
}
