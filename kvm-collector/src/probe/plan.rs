//! Translates a request to the settings of the eBPF programs. Reads no file and loads nothing.

use kvm_ebpf_common::{
    CHUNK_BYTES, COMMON_FIELDS_BYTES, FieldId, FieldLocation, FilterSettings, GeneralSettings,
    MAX_COPIED_BYTES, MAX_FILTER_IDS, MAX_SLOTS, NO_OFFSET, RECORD_HEADER_BYTES, SlotSettings,
    VCPU_UNKNOWN,
};

use super::{
    programs::TimingPrograms,
    request::{PlanError, Request},
    sizes::MAX_RING_BYTES,
};
use crate::{
    timing::{FieldLocations, Filter, locate_u32},
    tracefs::{Format, ReasonNames},
};

/// How many bytes are shipped behind a record's fixed part when the event has fields of variable
/// length (`__data_loc`): the record does not say how long it is before it is read.
const DYNAMIC_BYTES: usize = 256;

/// The kernel half's settings.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) slots: [SlotSettings; MAX_SLOTS],
    pub(super) filter: FilterSettings,
    pub(super) pairing: Option<TimingPrograms>,
    /// Where the fields are that the programs read.
    pub(super) places: FieldLocations,
    pub(super) ship: GeneralSettings,
    /// All programs are raw tracepoint programs that only count: no event's record is needed, and nothing is timed.
    pub(super) is_raw: bool,
    /// Attach the program that learns vCPU indices, to the event of this id.
    pub(super) learn_vcpus: Option<u16>,
    /// Attach the program that learns which threads are vCPUs'.
    pub(super) learn_threads: bool,
}

/// Events that only a vCPU's thread has.
pub(super) const OF_VCPU_THREADS: [(&str, &str); 2] =
    [("kvm", "kvm_exit"), ("kvm", "kvm_userspace_exit")];

impl Plan {
    /// Has the kernel half to know which threads are vCPUs'?
    pub(super) fn knows_threads(&self) -> bool {
        self.pairing.is_some() || self.learn_vcpus.is_some() || self.learn_threads
    }

    /// The program for the event of a slot, if none of those that time exits is.
    pub(super) fn program_of(&self, slot: usize) -> String {
        let flavour = if self.is_raw { "count" } else { "slot" };
        format!("{flavour}_{slot}")
    }

    /// Is anything sent to user space?
    pub(super) fn ships(&self, request: &Request<'_>) -> bool {
        let slow_ns = self.pairing.as_ref().map(|it| it.settings.slow_ns);
        request.emit || slow_ns.is_some_and(|it| it != u64::MAX)
    }

    pub(super) fn of(request: &Request<'_>) -> Result<Self, PlanError> {
        let ring_bytes = request.sizes.ring_bytes;
        if !ring_bytes.is_power_of_two() || !(4096..=MAX_RING_BYTES).contains(&ring_bytes) {
            return Err(PlanError::RingBytes(ring_bytes));
        }
        let (pairing, mut places) = match request.timing {
            Some(pairing) => {
                let (programs, places) = TimingPrograms::of(pairing, request)?;
                (Some(programs), places)
            }
            None => (None, FieldLocations::default()),
        };
        let entry_vcpu = locate_u32(request.entry_format, "vcpu_id", VCPU_UNKNOWN);
        places.set(FieldId::EntryVcpu, entry_vcpu);
        let slots = slots(request, &mut places)?;
        let is_raw = !request.emit
            && pairing.is_none()
            && request.filter.vcpus.is_empty()
            && slots
                .iter()
                .all(|it| it.vcpu_threads_only == 0 && it.checks_value == 0);
        Ok(Self {
            is_raw,
            learn_threads: slots.iter().any(|it| it.vcpu_threads_only != 0),
            slots,
            filter: filter(request.filter)?,
            pairing,
            places,
            ship: GeneralSettings {
                ring_shift: ring_bytes.ilog2(),
                per_thread: u32::from(request.per_thread),
                needs_task: u32::from(request.per_thread || request.needs_task()),
                log: u32::from(request.log),
                slot_count: u32::try_from(request.events.len()).unwrap_or(u32::MAX),
                ..GeneralSettings::default()
            },
            // Timing has a step for that, where it is needed. Otherwise only a filter by vCPU uses what is learnt.
            learn_vcpus: request
                .entry_format
                .filter(|_| request.timing.is_none() && !request.filter.vcpus.is_empty())
                .filter(|_| entry_vcpu.offset != NO_OFFSET)
                .map(|entry| entry.id),
        })
    }
}

fn slots(
    request: &Request<'_>,
    places: &mut FieldLocations,
) -> Result<[SlotSettings; MAX_SLOTS], PlanError> {
    let asked = request.events.len();
    if asked > MAX_SLOTS {
        return Err(PlanError::TooManyEvents { asked });
    }
    let mut slots = [SlotSettings::NONE; MAX_SLOTS];
    for (index, (slot, event)) in slots.iter_mut().zip(request.events).enumerate() {
        slot.event_id = u32::from(event.id);
        let vcpu = locate_u32(Some(event), "vcpu_id", VCPU_UNKNOWN);
        places.set(FieldId::SlotVcpu(index), vcpu);
        if request.filter.reasons.is_some() && event.name == "kvm_exit" {
            let value = locate_u32(Some(event), ReasonNames::reason_fields(Some(event)).1, 0);
            slot.checks_value = u32::from(value.offset != NO_OFFSET);
            places.set(FieldId::SlotValue(index), value);
        }
        if !event.is_kvm_event() {
            slot.vcpu_threads_only = 1;
            let others = ["next_pid", "pid"].map(|field| locate_u32(Some(event), field, 0));
            let other = others.into_iter().find(|it| it.offset != NO_OFFSET);
            places.set(
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

/// Header, fixed part and room for what varies, as a multiple of 8.
fn record_bytes(event: &Format) -> u32 {
    let mut raw = event.fixed_size();
    if event.has_dynamic_fields() {
        raw += DYNAMIC_BYTES;
    }
    let bytes = RECORD_HEADER_BYTES + raw.saturating_sub(COMMON_FIELDS_BYTES);
    // No event of KVM's comes near; a record that is cut off is said to be.
    u32::try_from(bytes.next_multiple_of(8).min(CHUNK_BYTES)).unwrap_or(u32::MAX)
}

/// How much of a record the kernel half may read itself: up to the end of the last field, as the kernel has it
/// (`trace_event_get_offsets`, kernel/trace/trace_event_perf.c). 0 for what it cannot or need not read.
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

fn filter(filter: &Filter) -> Result<FilterSettings, PlanError> {
    let mut settings = FilterSettings::ALL;
    settings.tgid_count = fill(&mut settings.tgids, &filter.tgids, "processes")?;
    settings.tid_count = fill(&mut settings.tids, &filter.tids, "threads")?;
    let reasons = filter.reasons.as_deref().unwrap_or_default();
    settings.value_count = fill(&mut settings.values, reasons, "exit reasons")?;
    settings.vcpu_count = fill(&mut settings.vcpus, &filter.vcpus, "vCPUs")?;
    Ok(settings)
}

fn fill(
    to: &mut [u32; MAX_FILTER_IDS],
    from: &[u32],
    what: &'static str,
) -> Result<u32, PlanError> {
    let too_many = PlanError::TooManyIds {
        what,
        asked: from.len(),
    };
    let Some(to) = to.get_mut(..from.len()) else {
        return Err(too_many);
    };
    to.copy_from_slice(from);
    u32::try_from(from.len()).map_err(|_| too_many)
}
