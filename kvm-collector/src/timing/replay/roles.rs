//! What follows from the events of each slot, and where their records have the fields for it: found out once, so
//! that no event takes a search for names.

use kvm_ebpf_common::{
    DetailSettings, FieldId, FieldPlace, Key, MAX_DETAILS, NO_CLASS, NO_OFFSET, PairingSettings,
};

use crate::{
    timing::{Pairing, Step, TimingError, TimingPlan},
    tracefs::Format,
};

/// The steps that follow from one event, in the order in which the eBPF programs run. There is one of each kind at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    steps: [Step; MAX_STEPS],
    count: usize,
}

/// The kinds of steps, and several details.
const MAX_STEPS: usize = 7 + MAX_DETAILS;

impl Steps {
    fn of(all: impl Iterator<Item = Step>) -> Self {
        let mut steps = Self {
            steps: [Step::Entry; MAX_STEPS],
            count: 0,
        };
        for (to, step) in steps.steps.iter_mut().zip(all) {
            *to = step;
            steps.count += 1;
        }
        steps
    }

    #[inline]
    pub(super) fn iter(&self) -> impl Iterator<Item = Step> + '_ {
        self.steps[..self.count].iter().copied()
    }
}

/// What follows from the events of one slot.
#[derive(Debug)]
struct Bound {
    steps: Steps,
    /// A record that is shorter is damaged.
    bytes: usize,
}

/// Where `kvm_exit` has what is needed of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExitFields {
    pub(super) code: FieldPlace,
    pub(super) class: FieldPlace,
    pub(super) vcpu: FieldPlace,
    pub(super) rip: FieldPlace,
}

/// What an event of some kind is counted by, and where it has that.
#[derive(Debug, Clone, Copy)]
pub(super) struct DetailFields {
    pub(super) settings: DetailSettings,
    code: FieldPlace,
    class: FieldPlace,
}

/// What follows from the events of each slot, and where each has the fields for it.
#[derive(Debug)]
pub(super) struct Roles {
    /// Per slot; `None` where nothing follows.
    bound: Vec<Option<Bound>>,
    pub(super) settings: PairingSettings,
    /// It is known which vCPU a thread runs, and when it returns to user space.
    pub(super) knows_turns: bool,
    pub(super) exit: ExitFields,
    pub(super) details: Vec<DetailFields>,
    pub(super) entry_vcpu: FieldPlace,
    pub(super) halted_ns: FieldPlace,
    pub(super) prev_state: FieldPlace,
    pub(super) next_tid: FieldPlace,
}

impl Roles {
    pub(super) fn of(pairing: &Pairing, formats: &[Format]) -> Result<Self, TimingError> {
        let plan = TimingPlan::of(pairing)?;
        let place = |field| plan.places.get(field);
        let details = plan.details.iter().enumerate();
        let mut roles = Self {
            bound: Vec::new(),
            settings: plan.settings,
            knows_turns: plan.knows_vcpus && pairing.user.is_some(),
            exit: ExitFields {
                code: place(FieldId::ExitCode),
                class: place(FieldId::ExitClass),
                vcpu: place(FieldId::ExitVcpu),
                rip: place(FieldId::ExitRip),
            },
            details: details
                .map(|(number, settings)| DetailFields {
                    settings: *settings,
                    code: place(FieldId::DetailCode(number)),
                    class: place(FieldId::DetailClass(number)),
                })
                .collect(),
            entry_vcpu: place(FieldId::EntryVcpu),
            halted_ns: place(FieldId::WakeupNs),
            prev_state: place(FieldId::SwitchPrevState),
            next_tid: place(FieldId::SwitchNextTid),
        };
        let bound = formats.iter().map(|format| {
            let event = format.event();
            let steps = plan.steps.iter().filter(|(_, it)| *it == event);
            let steps = Steps::of(steps.map(|(step, _)| *step));
            let bytes = steps.iter().map(|step| roles.bytes(step)).max()?;
            Some(Bound { steps, bytes })
        });
        roles.bound = bound.collect();
        Ok(roles)
    }

    /// How long a record has to be.
    fn bytes(&self, step: Step) -> usize {
        let fields = match step {
            Step::Exit => {
                let it = &self.exit;
                vec![it.code, it.class, it.vcpu, it.rip]
            }
            Step::LearnVcpu => vec![self.entry_vcpu],
            Step::Wakeup => vec![self.halted_ns],
            Step::Switch => vec![self.prev_state, self.next_tid],
            Step::Detail(number) => {
                let it = &self.details[usize::from(number)];
                vec![it.code, it.class]
            }
            Step::Entry | Step::User | Step::ThreadEnd => Vec::new(),
        };
        let there = fields.into_iter().filter(|it| it.offset != NO_OFFSET);
        there
            .map(|it| it.offset as usize + it.bytes as usize)
            .max()
            .unwrap_or(0)
    }

    /// What an exit is counted under.
    #[inline]
    pub(super) fn exit_key(&self, raw: &[u8]) -> Key {
        Key {
            code: read(raw, self.exit.code),
            class: read_u32(raw, self.exit.class),
            kind: 0,
        }
    }

    /// Does anything follow from the events of a slot?
    #[inline]
    pub(super) fn has_steps(&self, slot: usize) -> bool {
        self.bound.get(slot).is_some_and(Option::is_some)
    }

    /// The steps that follow from an event, and whether its record is long enough for them.
    #[inline]
    pub(super) fn steps(&self, slot: usize, raw: &[u8]) -> Option<(Steps, bool)> {
        let bound = self.bound.get(slot)?.as_ref()?;
        Some((bound.steps, raw.len() >= bound.bytes))
    }
}

impl DetailFields {
    /// What an event of the kind says.
    pub(super) fn key(&self, raw: &[u8]) -> Key {
        Key {
            code: read(raw, self.code) >> self.settings.code_shift,
            class: read_u32(raw, self.class),
            kind: self.settings.kind,
        }
    }

    /// Are events of this key left out?
    pub(super) fn skips(&self, key: &Key) -> bool {
        self.settings.skip_class != NO_CLASS && key.class == self.settings.skip_class
    }
}

/// A field of 4 bytes at most; of a longer one the lower half, as in the kernel half.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "as said")]
pub(super) fn read_u32(raw: &[u8], place: FieldPlace) -> u32 {
    read(raw, place) as u32
}

/// A field, or what it reads as where there is none.
#[inline]
pub(super) fn read(raw: &[u8], place: FieldPlace) -> u64 {
    // Where there is no such field, no record is as long as that.
    let from = raw.get(place.offset as usize..).unwrap_or_default();
    let read = match place.bytes {
        1 => from.first_chunk().map(|it| u8::from_ne_bytes(*it).into()),
        2 => from.first_chunk().map(|it| u16::from_ne_bytes(*it).into()),
        4 => from.first_chunk().map(|it| u32::from_ne_bytes(*it).into()),
        _ => from.first_chunk().map(|it| u64::from_ne_bytes(*it)),
    };
    read.unwrap_or_else(|| place.otherwise.into())
}
