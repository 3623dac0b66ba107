//! What follows from which event, and where its record has what that needs: found out once for each
//! format, so that an event takes no search for names.

use kvm_ebpf_common::{
    DetailSettings, Key, NO_CLASS, NO_OFFSET, PairingSettings, RECORD_HEADER_BYTES,
    RECORD_RAW_OFFSET,
};

use crate::{
    probe::{Pairing, PlanError},
    tracefs::Format,
};

/// The least that a record of any event has: its common fields.
const COMMON_BYTES: usize = RECORD_HEADER_BYTES - RECORD_RAW_OFFSET;

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

/// All roles there are, and where each finds its fields.
#[derive(Debug)]
pub(super) struct Roles {
    bound: Vec<Bound>,
    pub(super) settings: PairingSettings,
    pub(super) details: Vec<DetailSettings>,
}

impl Roles {
    pub(super) fn of(pairing: &Pairing, entry: Option<&Format>) -> Result<Self, PlanError> {
        let (settings, details) = pairing.settings(entry)?;
        let mut roles = Self {
            bound: Vec::new(),
            settings,
            details,
        };
        if settings.exit_vcpu_offset == NO_OFFSET && settings.entry_vcpu_offset != NO_OFFSET {
            roles.bind("kvm", "kvm_entry", Step::LearnVcpu);
        }
        roles.bind("kvm", "kvm_entry", Step::Entry);
        for (number, detail) in (0..).zip(pairing.details()) {
            roles.bind("kvm", &detail.format.name, Step::Detail(number));
        }
        if pairing.user.is_some() && roles.details.iter().all(|it| it.is_user == 0) {
            roles.bind("kvm", "kvm_userspace_exit", Step::User);
        }
        if settings.wakeup_ns_offset != NO_OFFSET {
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
        let end = |(offset, bytes): (u32, u32)| match offset {
            NO_OFFSET => 0,
            offset => offset as usize + bytes as usize,
        };
        let it = &self.settings;
        let ends = match step {
            Step::Exit => vec![
                (it.code_offset, 4),
                (it.class_offset, 4),
                (it.exit_vcpu_offset, 4),
                (it.rip_offset, 8),
            ],
            Step::LearnVcpu => vec![(it.entry_vcpu_offset, 4)],
            Step::Wakeup => vec![(it.wakeup_ns_offset, 8)],
            Step::Switch => vec![(it.prev_state_offset, 8), (it.next_tid_offset, 4)],
            Step::Detail(number) => {
                let it = &self.details[usize::from(number)];
                vec![
                    (it.code_offset, it.code_bytes),
                    (it.class_offset, it.class_bytes),
                ]
            }
            Step::Entry | Step::User | Step::ThreadEnd => Vec::new(),
        };
        ends.into_iter().map(end).max().unwrap_or(0)
    }

    /// What events of a format are; `None` if nothing follows from them.
    pub(super) fn role(&self, format: &Format) -> Option<Role> {
        let same = |it: &Bound| it.system == format.system && it.event == format.name;
        let index = self.bound.iter().position(same)?;
        u8::try_from(index).ok().map(Role)
    }

    /// How many steps there are, and whether the record is long enough for them.
    pub(super) fn steps(&self, role: Role, raw: &[u8]) -> (usize, bool) {
        self.bound.get(usize::from(role.0)).map_or((0, true), |it| {
            let needs = it.bytes.max(COMMON_BYTES);
            (it.steps.len(), raw.len() >= needs || it.bytes == 0)
        })
    }

    pub(super) fn step(&self, role: Role, number: usize) -> Option<Step> {
        let bound = self.bound.get(usize::from(role.0))?;
        bound.steps.get(number).copied()
    }
}

/// What an event of a kind says.
pub(super) fn detail_key(settings: &DetailSettings, raw: &[u8]) -> Key {
    let code = number(raw, settings.code_offset, settings.code_bytes);
    let class = number(raw, settings.class_offset, settings.class_bytes);
    Key {
        code: code >> settings.code_shift,
        // The lower half, as in the kernel half; a class has 4 bytes at most.
        class: u32::try_from(class & u64::from(u32::MAX)).unwrap_or(0),
        kind: settings.kind,
    }
}

/// Are events of this key left out?
pub(super) fn is_skipped(settings: &DetailSettings, key: &Key) -> bool {
    settings.skip_class != NO_CLASS && key.class == settings.skip_class
}

fn number(raw: &[u8], offset: u32, bytes: u32) -> u64 {
    match bytes {
        1 => bytes_at(raw, offset).map_or(0, |it| u64::from(u8::from_ne_bytes(it))),
        2 => bytes_at(raw, offset).map_or(0, |it| u64::from(u16::from_ne_bytes(it))),
        4 => u64::from(u32_at(raw, offset).unwrap_or(0)),
        _ => u64_at(raw, offset),
    }
}

/// A field; `None` where there is no such field.
#[inline]
pub(super) fn u32_at(raw: &[u8], offset: u32) -> Option<u32> {
    bytes_at(raw, offset).map(u32::from_ne_bytes)
}

/// A field; 0 where there is no such field.
#[inline]
pub(super) fn u64_at(raw: &[u8], offset: u32) -> u64 {
    bytes_at(raw, offset).map_or(0, u64::from_ne_bytes)
}

#[inline]
fn bytes_at<const N: usize>(raw: &[u8], offset: u32) -> Option<[u8; N]> {
    // Where there is no such field, no record is as long as that.
    raw.get(offset as usize..)?.first_chunk().copied()
}
