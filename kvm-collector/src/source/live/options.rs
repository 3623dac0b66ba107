//! Options of the live source.

use crate::{
    probe::MapSizes,
    timing::{Selection, TimingRequest},
    tracefs::Format,
};

/// What the eBPF programs measure.
#[derive(Debug, Default)]
pub struct LiveOptions {
    /// The events to count.
    pub events: Vec<Format>,
    /// Whether to send each event to user space as well.
    pub emits_events: bool,
    /// Whether to count the events of each VM as well.
    pub per_vm: bool,
    /// How VM exits are timed; `None` times no exits.
    pub timing: Option<TimingRequest>,
    /// The format of `kvm_entry`; `None` if the kernel does not have it.
    pub entry: Option<Format>,
    /// The selected VMs, vCPUs, threads and exit reasons.
    pub selection: Selection,
    /// The sizes of the BPF maps.
    pub sizes: MapSizes,
    /// Whether to print log messages of the eBPF programs.
    pub logs_programs: bool,
}

impl LiveOptions {
    /// Returns whether events are counted for VMs that are selected by name. The eBPF programs do
    /// not know names, so they count by thread, and user space selects.
    pub(super) fn counts_by_name(&self) -> bool {
        self.selection.is_by_name() && !self.events.is_empty() && !self.emits_events
    }
}
