//! What follows from which event, and where its record has what that needs: found out once for each
//! format, so that an event takes no search for names.

use kvm_ebpf_common::{
    DetailSettings, FieldId, FieldPlace, Key, NO_CLASS, NO_OFFSET, PairingSettings,
};

use crate::{
    probe::{Pairing, PairingRules, PlanError},
    tracefs::Format,
};

/// What events of one format are to a [`Replay`](super::Replay).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role(pub(super) u8);

/// One thing that follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// `kvm_entry` says which vCPU a thread runs, where `kvm_exit` does not.
    LearnVcpu,
    Entry,
    /// It says what an exit is about; the number is that of its settings.
    Detail(u8),
    User,
    Wakeup,
    Switch,
    ThreadEnd,
    Exit,
}

/// An event, and all that follows from it, in the order in which the kernel half's programs run.
#[derive(Debug)]
struct Bound {
    system: &'static str,
    event: String,
    steps: Vec<Step>,
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

/// All roles there are, and where each finds its fields.
#[derive(Debug)]
pub(super) struct Roles {
    bound: Vec<Bound>,
    pub(super) settings: PairingSettings,
    pub(super) exit: ExitFields,
    pub(super) details: Vec<DetailFields>,
    pub(super) entry_vcpu: FieldPlace,
    pub(super) halted_ns: FieldPlace,
    pub(super) prev_state: FieldPlace,
    pub(super) next_tid: FieldPlace,
}

impl Roles {
    pub(super) fn of(pairing: &Pairing, entry: Option<&Format>) -> Result<Self, PlanError> {
        let rules: PairingRules = pairing.rules(entry)?;
        let details = rules.details.iter().enumerate();
        let mut roles = Self {
            bound: Vec::new(),
            settings: rules.settings,
            exit: ExitFields {
                code: rules.place(FieldId::ExitCode),
                class: rules.place(FieldId::ExitClass),
                vcpu: rules.place(FieldId::ExitVcpu),
                rip: rules.place(FieldId::ExitRip),
            },
            details: details
                .map(|(number, settings)| DetailFields {
                    settings: *settings,
                    code: rules.place(FieldId::DetailCode(number)),
                    class: rules.place(FieldId::DetailClass(number)),
                })
                .collect(),
            entry_vcpu: rules.place(FieldId::EntryVcpu),
            halted_ns: rules.place(FieldId::WakeupNs),
            prev_state: rules.place(FieldId::SwitchPrevState),
            next_tid: rules.place(FieldId::SwitchNextTid),
        };
        if !rules.exits_have_vcpus && roles.entry_vcpu.offset != NO_OFFSET {
            roles.bind("kvm", "kvm_entry", Step::LearnVcpu);
        }
        roles.bind("kvm", "kvm_entry", Step::Entry);
        for (number, detail) in (0..).zip(pairing.details()) {
            roles.bind("kvm", &detail.format.name, Step::Detail(number));
        }
        if pairing.user.is_some() && rules.details.iter().all(|it| it.is_user == 0) {
            roles.bind("kvm", "kvm_userspace_exit", Step::User);
        }
        if pairing.wakeup.is_some() {
            roles.bind("kvm", "kvm_vcpu_wakeup", Step::Wakeup);
        }
        if pairing.switch.is_some() {
            roles.bind("sched", "sched_switch", Step::Switch);
        }
        roles.bind("sched", "sched_process_exit", Step::ThreadEnd);
        roles.bind("kvm", "kvm_exit", Step::Exit);
        Ok(roles)
    }

    fn bind(&mut self, system: &'static str, event: &str, step: Step) {
        let bytes = self.bytes(step);
        let same = |it: &&mut Bound| it.system == system && it.event == event;
        if let Some(bound) = self.bound.iter_mut().find(same) {
            bound.steps.push(step);
            bound.bytes = bound.bytes.max(bytes);
        } else {
            self.bound.push(Bound {
                system,
                event: event.to_owned(),
                steps: vec![step],
                bytes,
            });
        }
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

    /// What events of a format are; `None` if nothing follows from them.
    pub(super) fn role(&self, format: &Format) -> Option<Role> {
        let same = |it: &Bound| it.system == format.system && it.event == format.name;
        let index = self.bound.iter().position(same)?;
        u8::try_from(index).ok().map(Role)
    }

    /// How many steps there are, and whether the record is long enough for them.
    #[inline]
    pub(super) fn steps(&self, role: Role, raw: &[u8]) -> (usize, bool) {
        self.bound
            .get(usize::from(role.0))
            .map_or((0, true), |it| (it.steps.len(), raw.len() >= it.bytes))
    }

    #[inline]
    pub(super) fn step(&self, role: Role, number: usize) -> Option<Step> {
        let bound = self.bound.get(usize::from(role.0))?;
        bound.steps.get(number).copied()
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
