//! What is asked for, turned into the kernel half's settings. Pure: no file is read and nothing is
//! loaded here.

use kvm_ebpf_common::{
    EXIT_SPAN_BYTES, FilterSettings, MAX_FILTER_IDS, MAX_SLOTS, NO_OFFSET, PairingSettings,
    RECORD_HEADER_BYTES, ShipSettings, SlotSettings,
};

use crate::tracefs::{Format, ReasonNames};

/// How many bytes are shipped behind a record's fixed part when the event has fields of variable
/// length (`__data_loc`): the record does not say how long it is before it is read.
const DYNAMIC_BYTES: usize = 256;

/// The common fields at the start of each record; the header stands in their place.
const COMMON_BYTES: usize = 8;

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
    pub pair: bool,
    /// The formats of `kvm_exit` and `kvm_entry`, where the kernel has them.
    pub exit: Option<&'a Format>,
    /// See `exit`.
    pub entry: Option<&'a Format>,
    /// What is left out.
    pub filter: &'a Filter,
    /// Sizes the user may choose.
    pub sizes: MapSizes,
    /// The kernel half's own diagnostics.
    pub log: bool,
}

/// Sizes of maps.
#[derive(Debug, Clone, Copy)]
pub struct MapSizes {
    /// Of the ring buffer; a power of two and at least a page.
    pub ring_bytes: u32,
    /// Rows of (thread, vCPU, isa, reason).
    pub exit_rows: u32,
    /// vCPU threads.
    pub threads: u32,
}

impl Default for MapSizes {
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            exit_rows: 32_768,
            threads: 16_384,
        }
    }
}

/// Which events are wanted, by where they happen. An empty list means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Processes.
    pub tgids: Vec<u32>,
    /// Threads.
    pub tids: Vec<u32>,
    /// vCPU indices.
    pub vcpus: Vec<u32>,
    /// Of `kvm_exit`, only these reasons (by number, unmasked). `None` means all, also those that have
    /// no name.
    pub reasons: Option<Vec<u32>>,
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
    /// The kernel has no such event.
    #[error(
        "this kernel has no kvm:{0}, which timing VM exits needs: `kvm-collector list` shows what there is"
    )]
    NoEvent(&'static str),
    /// The event lacks a field or has it out of reach.
    #[error(
        "this kernel's kvm:kvm_exit has no usable field `{0}`, which says why the guest was left"
    )]
    NoField(&'static str),
    /// The ring's size.
    #[error("a ring buffer of {0} bytes cannot be made: give a power of two from 4096 up")]
    RingBytes(u32),
}

/// The kernel half's settings.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) slots: [SlotSettings; MAX_SLOTS],
    pub(super) filter: FilterSettings,
    pub(super) pairing: PairingSettings,
    pub(super) ship: ShipSettings,
    /// The events' records are needed, not only the fact that they happened.
    pub(super) needs_records: bool,
    /// Attach the program that learns vCPU indices.
    pub(super) learn_vcpus: bool,
}

impl Plan {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, PlanError> {
        let ring_bytes = request.sizes.ring_bytes;
        if !ring_bytes.is_power_of_two() || ring_bytes < 4096 {
            return Err(PlanError::RingBytes(ring_bytes));
        }
        let pairing = pairing(request)?;
        // Without a filter by vCPU nobody asks for what would be learnt; the pairing's own program
        // on `kvm_entry` learns as well.
        let learn_vcpus = !request.filter.vcpus.is_empty()
            && !request.pair
            && pairing.entry_vcpu_offset != NO_OFFSET;
        Ok(Self {
            slots: slots(request)?,
            filter: filter(request.filter)?,
            pairing,
            ship: ShipSettings {
                // Half full is late for a small ring, and 64 KiB is a thousand records.
                wakeup_bytes: (ring_bytes / 4).min(64 << 10),
                per_thread: u32::from(request.per_thread),
                log: u32::from(request.log),
            },
            needs_records: request.ship || !request.filter.vcpus.is_empty(),
            learn_vcpus,
        })
    }
}

fn slots(request: &Request<'_>) -> Result<[SlotSettings; MAX_SLOTS], PlanError> {
    let asked = request.events.len();
    if asked > MAX_SLOTS {
        return Err(PlanError::TooManyEvents { asked });
    }
    let mut slots = [SlotSettings {
        record_bytes: 0,
        vcpu_offset: NO_OFFSET,
        event_id: 0,
        value_offset: NO_OFFSET,
    }; MAX_SLOTS];
    for (slot, event) in slots.iter_mut().zip(request.events) {
        slot.event_id = u32::from(event.id);
        slot.vcpu_offset = u32_offset(Some(event), "vcpu_id");
        if request.filter.reasons.is_some() && event.name == "kvm_exit" {
            slot.value_offset = u32_offset(Some(event), ReasonNames::fields(Some(event)).1);
        }
        if request.ship {
            slot.record_bytes = record_bytes(event);
        }
    }
    Ok(slots)
}

/// Header, fixed part and room for what varies, as a multiple of 8.
fn record_bytes(event: &Format) -> u32 {
    let mut raw = event.fixed_size();
    if event.has_dynamic() {
        raw += DYNAMIC_BYTES;
    }
    let bytes = RECORD_HEADER_BYTES + raw.saturating_sub(COMMON_BYTES);
    u32::try_from(bytes.next_multiple_of(8)).unwrap_or(u32::MAX)
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

/// An offset of a u32 field that the kernel half can read, or [`NO_OFFSET`].
fn u32_offset(event: Option<&Format>, field: &str) -> u32 {
    event
        .and_then(|event| event.field(field))
        .filter(|field| field.size == 4)
        .and_then(|field| u32::try_from(field.offset).ok())
        .unwrap_or(NO_OFFSET)
}

/// As [`u32_offset`], within the span of `kvm_exit` that is read at once.
fn exit_offset(exit: Option<&Format>, field: &str) -> u32 {
    let offset = u32_offset(exit, field);
    let reach = COMMON_BYTES..=COMMON_BYTES + EXIT_SPAN_BYTES - 4;
    if reach.contains(&(offset as usize)) {
        offset
    } else {
        NO_OFFSET
    }
}

fn pairing(request: &Request<'_>) -> Result<PairingSettings, PlanError> {
    let mut pairing = PairingSettings {
        entry_vcpu_offset: u32_offset(request.entry, "vcpu_id"),
        exit_vcpu_offset: exit_offset(request.exit, "vcpu_id"),
        ..PairingSettings::NONE
    };
    if !request.pair {
        return Ok(pairing);
    }
    let exit = Some(request.exit.ok_or(PlanError::NoEvent("kvm_exit"))?);
    request.entry.ok_or(PlanError::NoEvent("kvm_entry"))?;
    let (isa, reason) = ReasonNames::fields(exit);
    pairing.isa_offset = exit_offset(exit, isa);
    pairing.reason_offset = exit_offset(exit, reason);
    if pairing.reason_offset == NO_OFFSET {
        return Err(PlanError::NoField(reason));
    }
    Ok(pairing)
}
