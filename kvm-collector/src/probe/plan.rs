//! What is asked for, turned into the kernel half's settings. Pure: no file is read and nothing is
//! loaded here.

use kvm_ebpf_common::{
    CHUNK_BYTES, COMMON_BYTES, FieldId, FieldPlace, FilterSettings, MAX_FILTER_IDS, MAX_SLOTS,
    MOST_COPIED_BYTES, NO_OFFSET, RECORD_HEADER_BYTES, ShipSettings, SlotSettings, VCPU_UNKNOWN,
};

use super::programs::TimingPrograms;
use crate::{
    timing::{FieldLocations, Filter, TimingRequest, TimingError, locate_u32},
    tracefs::{Format, ReasonNames},
};

/// How many bytes are shipped behind a record's fixed part when the event has fields of variable
/// length (`__data_loc`): the record does not say how long it is before it is read.
const DYNAMIC_BYTES: usize = 256;

/// What a command wants of the kernel half.
#[derive(Debug)]
pub struct Request<'a> {
    /// The events to count; each gets the slot of its index.
    pub events: &'a [Format],
    /// Also send each event to user space.
    pub ship: bool,
    /// Also count per thread.
    pub per_thread: bool,
    /// Time VM exits.
    pub pairing: Option<&'a TimingRequest>,
    /// The format of `kvm_entry`, where the kernel has it: it says which vCPU a thread runs.
    pub entry: Option<&'a Format>,
    /// What is left out.
    pub filter: &'a Filter,
    /// Processes will be left out later, by [`Attached::skip_process`](super::Attached::skip_process).
    pub skip_processes: bool,
    /// Sizes the user may choose.
    pub sizes: MapSizes,
    /// The kernel half's own diagnostics.
    pub log: bool,
}

impl Request<'_> {
    /// Does it select by who caused an event?
    pub(super) fn is_by_task(&self) -> bool {
        self.skip_processes || self.filter.is_by_task()
    }
}

/// Sizes of maps.
#[derive(Debug, Clone, Copy)]
pub struct MapSizes {
    /// Of each CPU's ring; a power of two, from 4096 to [`MOST_RING_BYTES`].
    pub ring_bytes: u32,
    /// Rows of (thread, key).
    pub exit_rows: u32,
    /// vCPU threads.
    pub threads: u32,
    /// Threads whose events are counted by themselves: vCPU threads, and those of VMMs that run no vCPU.
    pub counted_threads: u32,
}

/// Rows of the tables of exits at least.
const LEAST_ROWS: u32 = 4_096;

/// Places for vCPU threads at least: at 704 bytes each, they are cheap.
const LEAST_THREADS: u32 = 4_096;

/// vCPUs that a CPU may have, when VMs come that are not there yet.
const VCPUS_PER_CPU: usize = 8;

impl MapSizes {
    /// With rings of another size, if one is given.
    #[must_use]
    pub fn with_rings(self, bytes: Option<u32>) -> Self {
        Self {
            ring_bytes: bytes.unwrap_or(self.ring_bytes),
            ..self
        }
    }

    /// For a host that has so many vCPUs now, and so many CPUs: room for 20 reasons of each vCPU there is or
    /// may come, and a quarter more; and for as many threads again as come and go between two looks.
    #[must_use]
    pub fn for_host(vcpus: usize, cpus: usize) -> Self {
        let vcpus = vcpus.max(cpus.saturating_mul(VCPUS_PER_CPU));
        let vcpus = u32::try_from(vcpus).unwrap_or(u32::MAX);
        Self {
            exit_rows: vcpus.saturating_mul(25).max(LEAST_ROWS),
            threads: vcpus.saturating_mul(2).max(LEAST_THREADS),
            counted_threads: vcpus.saturating_mul(4).max(2 * LEAST_THREADS),
            ..Self::default()
        }
    }
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            ring_bytes: ring_bytes(cpus()),
            exit_rows: LEAST_ROWS,
            threads: LEAST_THREADS,
            counted_threads: 2 * LEAST_THREADS,
        }
    }
}

/// A ring's size at most: all of them are in one map.
pub const MOST_RING_BYTES: u32 = 64 << 20;

/// The rings of all CPUs together, unless told.
const RINGS_BYTES: u32 = 64 << 20;

/// The size of a CPU's ring, unless told: a busy CPU fills the least in some milliseconds.
fn ring_bytes(cpus: u32) -> u32 {
    let share = RINGS_BYTES / cpus.max(1);
    (1 << share.max(1).ilog2()).clamp(256 << 10, 4 << 20)
}

/// How many CPUs there can be, by number.
pub(super) fn cpus() -> u32 {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible");
    let possible = possible.ok().and_then(|list| cpus_of(&list));
    possible.unwrap_or(4096)
}

/// One more than the highest number in a list of CPUs (`0-3,8`): not all numbers need be there.
fn cpus_of(list: &str) -> Option<u32> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<u32>().ok()?.checked_add(1)
}

/// Why a request cannot be met.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// More events than slots.
    #[error(
        "{asked} events selected, but at most {MAX_SLOTS} can be watched at once: select fewer with -e"
    )]
    TooManyEvents {
        /// How many were selected.
        asked: usize,
    },
    /// More ids than the filter holds.
    #[error(
        "{asked} {what} selected, but a filter holds at most {MAX_FILTER_IDS}: select fewer, or all"
    )]
    TooManyIds {
        /// Of what.
        what: &'static str,
        /// How many were selected.
        asked: usize,
    },
    /// Exits cannot be timed as requested.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The ring's size.
    #[error(
        "a ring of {0} bytes cannot be made: give a power of two from 4096 to {MOST_RING_BYTES}"
    )]
    RingBytes(u32),
}

/// The kernel half's settings.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) slots: [SlotSettings; MAX_SLOTS],
    pub(super) filter: FilterSettings,
    pub(super) pairing: Option<TimingPrograms>,
    /// Where the fields are that the programs read.
    pub(super) places: FieldLocations,
    pub(super) ship: ShipSettings,
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
        request.ship || slow_ns.is_some_and(|it| it != u64::MAX)
    }

    pub(super) fn of(request: &Request<'_>) -> Result<Self, PlanError> {
        let ring_bytes = request.sizes.ring_bytes;
        if !ring_bytes.is_power_of_two() || !(4096..=MOST_RING_BYTES).contains(&ring_bytes) {
            return Err(PlanError::RingBytes(ring_bytes));
        }
        let (pairing, mut places) = match request.pairing {
            Some(pairing) => {
                let (programs, places) = TimingPrograms::of(pairing, request)?;
                (Some(programs), places)
            }
            None => (None, FieldLocations::default()),
        };
        let entry_vcpu = locate_u32(request.entry, "vcpu_id", VCPU_UNKNOWN);
        places.set(FieldId::EntryVcpu, entry_vcpu);
        let slots = slots(request, &mut places)?;
        let is_raw = !request.ship
            && pairing.is_none()
            && request.filter.vcpus.is_empty()
            && slots.iter().all(|it| it.of_vcpus == 0 && it.has_value == 0);
        Ok(Self {
            is_raw,
            learn_threads: slots.iter().any(|it| it.of_vcpus != 0),
            slots,
            filter: filter(request.filter)?,
            pairing,
            places,
            ship: ShipSettings {
                ring_shift: ring_bytes.ilog2(),
                per_thread: u32::from(request.per_thread),
                by_task: u32::from(request.per_thread || request.is_by_task()),
                log: u32::from(request.log),
                slots: u32::try_from(request.events.len()).unwrap_or(u32::MAX),
                ..ShipSettings::default()
            },
            // Timing has a step for that, where it is needed. Otherwise only a filter by vCPU uses what is learnt.
            learn_vcpus: request
                .entry
                .filter(|_| request.pairing.is_none() && !request.filter.vcpus.is_empty())
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
            slot.has_value = u32::from(value.offset != NO_OFFSET);
            places.set(FieldId::SlotValue(index), value);
        }
        if !event.is_kvm_event() {
            slot.of_vcpus = 1;
            let others = ["next_pid", "pid"].map(|field| locate_u32(Some(event), field, 0));
            let other = others.into_iter().find(|it| it.offset != NO_OFFSET);
            places.set(
                FieldId::SlotOther(index),
                other.unwrap_or(FieldPlace::none(0)),
            );
        }
        if request.ship {
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
    let bytes = RECORD_HEADER_BYTES + raw.saturating_sub(COMMON_BYTES);
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
    let bytes = end.saturating_sub(COMMON_BYTES);
    if event.has_dynamic_fields() || bytes > MOST_COPIED_BYTES {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_by_the_highest_number() {
        for (list, cpus) in [("0", 1), ("0-3\n", 4), ("0-3,8", 9), ("0,2-5", 6)] {
            assert_eq!(cpus_of(list), Some(cpus), "{list}");
        }
        assert_eq!(cpus_of(""), None);
    }
}
