//! The steps of each event, and the locations of the fields that they read. Both are looked up by
//! name once, not for each event.

use kvm_ebpf_common::{
    DetailSettings, FieldId, FieldLocation, Key, MAX_DETAILS, NO_OFFSET, NO_SUBCODE, TimingSettings,
};

use crate::{
    timing::{Step, TimingError, TimingPlan, TimingRequest},
    tracefs::Format,
};

/// The steps of one event, in the order in which the eBPF programs run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    steps: [Step; MAX_STEPS],
    count: usize,
}

/// Maximum number of steps of an event: each kind of step once, and each detail.
const MAX_STEPS: usize = 7 + MAX_DETAILS;

impl Steps {
    fn collect(all: impl Iterator<Item = Step>) -> Self {
        let mut steps = Self {
            steps: [Step::Entry; MAX_STEPS],
            count: 0,
        };
        for (entry, step) in steps.steps.iter_mut().zip(all) {
            *entry = step;
            steps.count += 1;
        }
        steps
    }

    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = Step> + '_ {
        self.steps[..self.count].iter().copied()
    }
}

/// The steps of the events in one slot.
#[derive(Debug)]
struct SlotSteps {
    steps: Steps,
    /// Minimum length of a record; a shorter one is damaged.
    min_bytes: usize,
}

/// Locations of the fields of `kvm_exit`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExitFields {
    pub(super) code: FieldLocation,
    pub(super) subcode: FieldLocation,
    pub(super) vcpu: FieldLocation,
    pub(super) rip: FieldLocation,
}

/// Settings and field locations of an event that is counted or tells a cause.
#[derive(Debug, Clone, Copy)]
pub(super) struct DetailFields {
    pub(super) settings: DetailSettings,
    code: FieldLocation,
    subcode: FieldLocation,
}

/// The steps of the events in all slots, with settings and field locations.
#[derive(Debug)]
pub(super) struct EventSteps {
    /// By slot; `None` if the event has no steps.
    slots: Vec<Option<SlotSteps>>,
    pub(super) settings: TimingSettings,
    /// Whether vCPU indices are from the names of threads.
    pub(super) vcpus_are_named: bool,
    /// Whether migrations of vCPUs between threads can be detected: the events tell which vCPU a
    /// thread runs, and when it returns to user space.
    pub(super) detects_migration: bool,
    pub(super) exit: ExitFields,
    pub(super) details: Vec<DetailFields>,
    pub(super) entry_vcpu: FieldLocation,
    pub(super) wakeup_ns: FieldLocation,
    pub(super) prev_state: FieldLocation,
    pub(super) next_tid: FieldLocation,
}

impl EventSteps {
    /// Plans the steps for events with these formats, by slot.
    ///
    /// # Errors
    /// [`TimingError`] if the formats lack an event or a field that is needed to time exits.
    pub(super) fn new(request: &TimingRequest, formats: &[Format]) -> Result<Self, TimingError> {
        let plan = TimingPlan::new(request)?;
        let location = |field| plan.field_locations.get(field);
        let details = plan.details.iter().enumerate();
        let mut all = Self {
            slots: Vec::new(),
            settings: plan.settings,
            vcpus_are_named: plan.vcpus_are_named,
            detects_migration: !plan.vcpus_are_named && request.userspace_exit.is_some(),
            exit: ExitFields {
                code: location(FieldId::ExitCode),
                subcode: location(FieldId::ExitSubcode),
                vcpu: location(FieldId::ExitVcpu),
                rip: location(FieldId::ExitRip),
            },
            details: details
                .map(|(number, settings)| DetailFields {
                    settings: *settings,
                    code: location(FieldId::DetailCode(number)),
                    subcode: location(FieldId::DetailSubcode(number)),
                })
                .collect(),
            entry_vcpu: location(FieldId::EntryVcpu),
            wakeup_ns: location(FieldId::WakeupNs),
            prev_state: location(FieldId::SwitchPrevState),
            next_tid: location(FieldId::SwitchNextTid),
        };
        let slots = formats.iter().map(|format| {
            let event = format.event_name();
            let steps = plan.steps.iter().filter(|(_, it)| *it == event);
            let steps = Steps::collect(steps.map(|(step, _)| *step));
            let min_bytes = steps.iter().map(|step| all.min_record_bytes(step)).max()?;
            Some(SlotSteps { steps, min_bytes })
        });
        all.slots = slots.collect();
        Ok(all)
    }

    /// Returns the minimum length of a record that has the fields of a step.
    fn min_record_bytes(&self, step: Step) -> usize {
        let fields = match step {
            Step::Exit => {
                let it = &self.exit;
                vec![it.code, it.subcode, it.vcpu, it.rip]
            }
            Step::LearnVcpu => vec![self.entry_vcpu],
            Step::Wakeup => vec![self.wakeup_ns],
            Step::Switch => vec![self.prev_state, self.next_tid],
            Step::Detail(number) => {
                let it = &self.details[usize::from(number)];
                vec![it.code, it.subcode]
            }
            Step::Entry | Step::UserspaceExit | Step::ThreadEnd => Vec::new(),
        };
        let existing = fields.into_iter().filter(|it| it.offset != NO_OFFSET);
        existing
            .map(|it| it.offset as usize + it.bytes as usize)
            .max()
            .unwrap_or(0)
    }

    /// Reads the key of a `kvm_exit` record.
    #[inline]
    pub(super) fn exit_key(&self, raw: &[u8]) -> Key {
        Key {
            code: read(raw, self.exit.code),
            subcode: read_u32(raw, self.exit.subcode),
            kind: 0,
        }
    }

    /// Returns whether the events in a slot have steps.
    #[inline]
    pub(super) fn has_steps(&self, slot: usize) -> bool {
        self.slots.get(slot).is_some_and(Option::is_some)
    }

    /// Returns the steps of an event, and whether its record is long enough for them.
    #[inline]
    pub(super) fn steps(&self, slot: usize, raw: &[u8]) -> Option<(Steps, bool)> {
        let slot_steps = self.slots.get(slot)?.as_ref()?;
        Some((slot_steps.steps, raw.len() >= slot_steps.min_bytes))
    }
}

impl DetailFields {
    /// Reads the key of an event.
    pub(super) fn key(&self, raw: &[u8]) -> Key {
        Key {
            code: DetailSettings::code(
                read(raw, self.code),
                self.settings.code_shift,
                self.settings.cleared_bits,
            ),
            subcode: read_u32(raw, self.subcode),
            kind: self.settings.kind,
        }
    }

    /// Returns whether events with this key are not counted.
    pub(super) fn skips(&self, key: &Key) -> bool {
        self.settings.skip_subcode != NO_SUBCODE && key.subcode == self.settings.skip_subcode
    }
}

/// Reads a field of up to 4 bytes. Of a longer field it returns the low half, as the eBPF programs
/// do.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
pub(super) fn read_u32(raw: &[u8], location: FieldLocation) -> u32 {
    read(raw, location) as u32
}

/// Reads a field. If the event does not have it, returns its substitute value.
#[inline]
pub(super) fn read(raw: &[u8], location: FieldLocation) -> u64 {
    // The offset of a missing field is beyond the end of any record.
    let rest = raw.get(location.offset as usize..).unwrap_or_default();
    let value = match location.bytes {
        1 => rest.first_chunk().map(|it| u8::from_ne_bytes(*it).into()),
        2 => rest.first_chunk().map(|it| u16::from_ne_bytes(*it).into()),
        4 => rest.first_chunk().map(|it| u32::from_ne_bytes(*it).into()),
        _ => rest.first_chunk().map(|it| u64::from_ne_bytes(*it)),
    };
    value.unwrap_or_else(|| location.default_value.into())
}
