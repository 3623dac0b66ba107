//! The selected events of a recording, by attr. An attr (`perf_event_attr`) stands for one recorded
//! event.

use crate::{recording::EventAttr, timing::Attribution, tracefs::Format};

/// How the events of an attr are handled.
#[derive(Debug, Clone, Default)]
pub(super) struct AttrSelection {
    /// The index of its format in the recording; `None` if it is unknown.
    pub(super) format: Option<usize>,
    /// Its slot among the selected events; `None` if it is not selected.
    pub(super) slot: Option<usize>,
    /// Minimum length of a record, which is the end of its last field. A shorter record is damaged.
    pub(super) min_bytes: usize,
    /// Whether its events only happen in vCPU threads, so that a process that has one is a VM.
    pub(super) is_vcpu_thread_event: bool,
    /// Whether its events are of KVM.
    pub(super) is_kvm_event: bool,
    /// Whether only a sample of its events is recorded, each of which stands for several.
    pub(super) is_sampled: bool,
}

impl AttrSelection {
    /// Creates the selection for an attr, given the formats of all events and of the selected ones.
    pub(super) fn new(attr: &EventAttr, formats: &[Format], selected: &[Format]) -> Self {
        let is_event = |format: &Format| Some(u64::from(format.id)) == attr.tracepoint;
        let format = formats.iter().position(is_event);
        Self {
            format,
            slot: selected.iter().position(is_event),
            is_sampled: attr.is_sampled,
            is_vcpu_thread_event: format
                .is_some_and(|index| Attribution::identifies_vcpu_threads(&formats[index])),
            is_kvm_event: format.is_some_and(|index| formats[index].is_kvm_event()),
            min_bytes: format.map_or(0, |index| formats[index].min_record_size()),
        }
    }
}
