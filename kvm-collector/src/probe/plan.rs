//! Translates a request to the settings of the eBPF programs. Reads no file and loads nothing.

use kvm_ebpf_common::{
    CHUNK_BYTES, COMMON_FIELDS_BYTES, FieldId, FieldLocation, FilterSettings, GeneralSettings,
    MAX_COPIED_BYTES, MAX_FILTER_IDS, MAX_SLOTS, NO_OFFSET, RECORD_HEADER_BYTES, SlotSettings,
    VCPU_UNKNOWN,
};

use super::{
    request::{PlanError, Request},
    sizes::MAX_RING_BYTES,
    timing_programs::TimingPrograms,
};
use crate::{
    timing::{FieldLocations, Filter, locate_u32, vcpus_are_named},
    tracefs::{Format, ReasonNames},
};

/// Number of bytes that are copied behind the fixed part of an event with fields of variable length (`__data_loc`). A
/// program cannot know the length of the event.
const DYNAMIC_BYTES: usize = 256;

/// Settings of the eBPF programs, and which of them to attach.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) slots: [SlotSettings; MAX_SLOTS],
    pub(super) filter: FilterSettings,
    /// The programs that time exits, if requested.
    pub(super) timing: Option<TimingPrograms>,
    /// Locations of the fields that the programs read.
    pub(super) locations: FieldLocations,
    pub(super) general: GeneralSettings,
    /// Whether all programs are raw tracepoint programs that only count. Then no record of an event is needed, and nothing
    /// is timed.
    pub(super) is_raw: bool,
    /// Id of the event for the program that learns vCPU indices; `None` if it is not needed.
    pub(super) learn_vcpus: Option<u16>,
    /// Whether the program is needed that learns which threads run vCPUs.
    pub(super) learn_threads: bool,
}

/// Events that only occur in vCPU threads.
pub(super) const VCPU_THREAD_EVENTS: [(&str, &str); 2] =
    [("kvm", "kvm_exit"), ("kvm", "kvm_userspace_exit")];

impl Plan {
    /// Returns whether the programs must know which threads run vCPUs.
    pub(super) fn knows_threads(&self) -> bool {
        self.timing.is_some() || self.learn_vcpus.is_some() || self.learn_threads
    }

    /// Returns the program for the event of a slot that no timing program handles.
    pub(super) fn slot_program(&self, slot: usize) -> String {
        let variant = if self.is_raw { "count" } else { "slot" };
        format!("{variant}_{slot}")
    }

    /// Returns whether events or slow exits are sent to user space.
    pub(super) fn sends_records(&self, request: &Request<'_>) -> bool {
        let slow_ns = self.timing.as_ref().map(|timing| timing.settings.slow_ns);
        request.emit || slow_ns.is_some_and(|limit_ns| limit_ns != u64::MAX)
    }

    /// Plans the settings and programs for a request.
    pub(super) fn new(request: &Request<'_>) -> Result<Self, PlanError> {
        let ring_bytes = request.sizes.ring_bytes;
        if !ring_bytes.is_power_of_two() || !(4096..=MAX_RING_BYTES).contains(&ring_bytes) {
            return Err(PlanError::RingBytes(ring_bytes));
        }
        let (timing, mut locations) = match request.timing {
            Some(timing) => {
                let (programs, locations) = TimingPrograms::new(timing, request)?;
                (Some(programs), locations)
            }
            None => (None, FieldLocations::default()),
        };
        let entry_vcpu = locate_u32(request.entry_format, "vcpu_id", VCPU_UNKNOWN);
        locations.set(FieldId::EntryVcpu, entry_vcpu);
        let slots = slots(request, &mut locations)?;
        let formats = request.events.iter().chain(request.entry_format);
        let names_vcpus = match &timing {
            Some(timing) => timing.vcpus_are_named,
            None => vcpus_are_named(formats),
        };
        let selects_vcpus = !request.filter.vcpus.is_empty();
        let is_raw = !request.emit
            && timing.is_none()
            && !selects_vcpus
            && slots
                .iter()
                .all(|slot| slot.vcpu_threads_only == 0 && slot.checks_value == 0);
        Ok(Self {
            is_raw,
            learn_threads: slots.iter().any(|slot| slot.vcpu_threads_only != 0)
                // The name of a thread with an entry is not read again.
                || selects_vcpus && names_vcpus && timing.is_none(),
            slots,
            filter: filter(request.filter)?,
            timing,
            locations,
            general: GeneralSettings {
                ring_shift: ring_bytes.ilog2(),
                per_thread: u32::from(request.per_thread),
                needs_task: u32::from(request.per_thread || request.needs_task()),
                log: u32::from(request.log),
                slot_count: u32::try_from(request.events.len()).unwrap_or(u32::MAX),
                names_vcpus: u32::from(names_vcpus),
                ..GeneralSettings::default()
            },
            // If exits are timed, a timing program does this. Otherwise only the selection of vCPUs needs the index.
            learn_vcpus: request
                .entry_format
                .filter(|_| request.timing.is_none() && selects_vcpus)
                .filter(|_| entry_vcpu.offset != NO_OFFSET)
                .map(|entry| entry.id),
        })
    }
}

/// Returns the settings of all slots, and stores the locations of the fields that their programs read.
fn slots(
    request: &Request<'_>,
    locations: &mut FieldLocations,
) -> Result<[SlotSettings; MAX_SLOTS], PlanError> {
    let selected = request.events.len();
    if selected > MAX_SLOTS {
        return Err(PlanError::TooManyEvents { selected });
    }
    let mut slots = [SlotSettings::NONE; MAX_SLOTS];
    for (index, (slot, event)) in slots.iter_mut().zip(request.events).enumerate() {
        slot.event_id = u32::from(event.id);
        let vcpu = locate_u32(Some(event), "vcpu_id", VCPU_UNKNOWN);
        locations.set(FieldId::SlotVcpu(index), vcpu);
        if request.filter.reasons.is_some() && event.name == "kvm_exit" {
            let value = locate_u32(Some(event), ReasonNames::reason_fields(Some(event)).1, 0);
            slot.checks_value = u32::from(value.offset != NO_OFFSET);
            locations.set(FieldId::SlotValue(index), value);
        }
        if !event.is_kvm_event() {
            slot.vcpu_threads_only = 1;
            let others = ["next_pid", "pid"].map(|field| locate_u32(Some(event), field, 0));
            let other = others
                .into_iter()
                .find(|location| location.offset != NO_OFFSET);
            locations.set(
                FieldId::SlotOtherTid(index),
                other.unwrap_or(FieldLocation::absent(0)),
            );
        }
        if request.emit {
            slot.record_bytes = record_bytes(event);
            slot.copied_bytes = copied_bytes(event);
        }
    }
    Ok(slots)
}

/// Returns the length of a record: header, fixed part and space for the variable part, as a multiple of 8.
fn record_bytes(event: &Format) -> u32 {
    let mut raw = event.fixed_size();
    if event.has_dynamic_fields() {
        raw += DYNAMIC_BYTES;
    }
    let bytes = RECORD_HEADER_BYTES + raw.saturating_sub(COMMON_FIELDS_BYTES);
    // No event of KVM is nearly as long as a chunk. A truncated event is marked when it is printed.
    u32::try_from(bytes.next_multiple_of(8).min(CHUNK_BYTES)).unwrap_or(u32::MAX)
}

/// Returns how many bytes of an event a program may read directly: up to the end of the last field, the limit that the
/// kernel checks (`trace_event_get_offsets`, kernel/trace/trace_event_perf.c). 0 if the program must copy the event in
/// another way.
fn copied_bytes(event: &Format) -> u32 {
    let end = event
        .fields
        .last()
        .map_or(0, |last| last.offset + last.size);
    let bytes = end.saturating_sub(COMMON_FIELDS_BYTES);
    if event.has_dynamic_fields() || bytes > MAX_COPIED_BYTES {
        return 0;
    }
    u32::try_from(bytes).unwrap_or(0)
}

/// A number that no exit reason has: those of VMX have 16 bits and flags in the upper half, those of SVM 12 bits
/// or the highest bit.
const NO_REASON: u32 = 0x0fff_ff00;

/// Returns the settings of the filter.
fn filter(filter: &Filter) -> Result<FilterSettings, PlanError> {
    let mut settings = FilterSettings::ALL;
    settings.tgid_count = fill(&mut settings.tgids, &filter.tgids, "processes")?;
    settings.tid_count = fill(&mut settings.tids, &filter.tids, "threads")?;
    // The programs take an empty list for a list of all.
    let reasons = match filter.reasons.as_deref() {
        Some([]) => &[NO_REASON],
        reasons => reasons.unwrap_or_default(),
    };
    settings.value_count = fill(&mut settings.values, reasons, "exit reasons")?;
    settings.vcpu_count = fill(&mut settings.vcpus, &filter.vcpus, "vCPUs")?;
    Ok(settings)
}

/// Copies a list of ids to the filter, and returns its length. `ids` names them in the error message.
fn fill(to: &mut [u32; MAX_FILTER_IDS], from: &[u32], ids: &'static str) -> Result<u32, PlanError> {
    let too_many = PlanError::TooManyIds {
        ids,
        selected: from.len(),
    };
    let Some(to) = to.get_mut(..from.len()) else {
        return Err(too_many);
    };
    to.copy_from_slice(from);
    u32::try_from(from.len()).map_err(|_| too_many)
}
