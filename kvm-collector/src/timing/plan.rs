//! A request to time exits, turned into settings, and into what follows from which event. Both sides use it:
//! `probe` attaches a program for each step, [`Replay`](super::Replay) takes the steps itself.

use kvm_ebpf_common::{
    DetailSettings, FieldId, FieldPlace, MAX_DETAILS, NO_CLASS, NO_OFFSET, PairingSettings,
    RIP_CAUSE, VCPU_UNKNOWN,
};

use super::{
    Detail, FieldPlaces, Pairing,
    fields::{integer, place_of, required, u32_place},
};
use crate::tracefs::{EventName, Format, ReasonNames};

/// The event of a thread that ends: system and name.
pub(crate) const THREAD_END: (&str, &str) = ("sched", "sched_process_exit");

/// Why exits cannot be timed as requested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// There is no such event.
    #[error(
        "there is no kvm:{0} event, which timing VM exits needs: `kvm-collector list` shows what there is"
    )]
    NoEvent(&'static str),
    /// The event lacks a field or has it out of reach.
    #[error("this kernel's {event} has no usable field `{field}`; it has {there_are}")]
    NoField {
        /// The event.
        event: String,
        /// The field.
        field: String,
        /// The fields there are.
        there_are: String,
    },
    /// More kinds of events than there are programs for.
    #[error("{0} kinds of causes selected, but at most {MAX_DETAILS} can be watched at once")]
    TooManyDetails(usize),
}

/// One thing that follows from an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `kvm_entry` says which vCPU a thread runs, where `kvm_exit` does not.
    LearnVcpu,
    /// The thread enters the guest.
    Entry,
    /// It says what an exit is about; the number is that of its settings.
    Detail(u8),
    /// The thread returns to the VMM.
    User,
    /// The thread was halted.
    Wakeup,
    /// A CPU goes from one thread to another.
    Switch,
    /// A thread ends.
    ThreadEnd,
    /// The thread leaves the guest.
    Exit,
}

/// How exits are timed.
#[derive(Debug)]
pub(crate) struct TimingPlan {
    pub(crate) settings: PairingSettings,
    /// Of each kind of event that is counted, or a cause; in the order of [`Pairing::details`].
    pub(crate) details: Vec<DetailSettings>,
    /// All steps with their events, in the order in which they take effect. Programs are attached in this
    /// order, and an event that has several programs runs them in this order, too.
    pub(crate) steps: Vec<(Step, EventName)>,
    /// Where the fields are that the steps read.
    pub(crate) places: FieldPlaces,
    /// It is known which vCPU a thread runs: `kvm_exit` or `kvm_entry` says so.
    pub(crate) knows_vcpus: bool,
}

impl TimingPlan {
    /// Plans what is requested.
    pub(crate) fn of(pairing: &Pairing) -> Result<Self, TimingError> {
        let entry = pairing
            .entry
            .as_ref()
            .ok_or(TimingError::NoEvent("kvm_entry"))?;
        let exit = pairing
            .exit
            .as_ref()
            .ok_or(TimingError::NoEvent("kvm_exit"))?;
        let mut places = FieldPlaces::default();
        place_exit(exit, &mut places)?;
        let entry_vcpu = u32_place(Some(entry), "vcpu_id", VCPU_UNKNOWN);
        places.set(FieldId::EntryVcpu, entry_vcpu);
        if let Some(wakeup) = &pairing.wakeup {
            places.set(FieldId::WakeupNs, required(wakeup, "ns", 8)?);
        }
        if let Some(switch) = &pairing.switch {
            places.set(FieldId::SwitchPrevState, required(switch, "prev_state", 8)?);
            places.set(FieldId::SwitchNextTid, required(switch, "next_pid", 4)?);
        }
        let numbers = pairing.counted.iter().map(|_| 0);
        let numbers = numbers.chain(pairing.causes.iter().zip(1..).map(|(_, number)| number));
        let details = pairing.details().zip(numbers).enumerate();
        let details = details
            .map(|(index, (it, number))| detail(index, it, number, &mut places))
            .collect::<Result<Vec<_>, _>>()?;
        let exits_have_vcpus = places.get(FieldId::ExitVcpu).offset != NO_OFFSET;
        let learns_vcpus = !exits_have_vcpus && entry_vcpu.offset != NO_OFFSET;
        Ok(Self {
            settings: PairingSettings {
                by_reason: u32::from(pairing.counted.is_none()),
                causes: u32::from(pairing.rip_is_cause || !pairing.causes.is_empty()),
                slow_ns: pairing.slow.map_or(u64::MAX, |slow| {
                    u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX - 1)
                }),
                rip_kind: if pairing.rip_is_cause { RIP_CAUSE } else { 0 },
                ..PairingSettings::NONE
            },
            knows_vcpus: exits_have_vcpus || learns_vcpus,
            steps: steps(pairing, entry, exit, learns_vcpus),
            details,
            places,
        })
    }
}

/// The order matters twice: for programs of one event it decides which runs first, and `kvm_exit` is attached
/// last, because the entry after a first exit could be missed if it were not.
fn steps(
    pairing: &Pairing,
    entry: &Format,
    exit: &Format,
    learns_vcpus: bool,
) -> Vec<(Step, EventName)> {
    let mut steps = Vec::new();
    if learns_vcpus {
        steps.push((Step::LearnVcpu, entry.event()));
    }
    steps.push((Step::Entry, entry.event()));
    let details = (0..).zip(pairing.details());
    steps.extend(details.map(|(number, it)| (Step::Detail(number), it.format.event())));
    if let Some(user) = &pairing.user
        && pairing.details().all(|it| !is_user_exit(&it.format))
    {
        steps.push((Step::User, user.event()));
    }
    let wakeup = pairing.wakeup.iter();
    steps.extend(wakeup.map(|it| (Step::Wakeup, it.event())));
    let switch = pairing.switch.iter();
    steps.extend(switch.map(|it| (Step::Switch, it.event())));
    steps.push((Step::ThreadEnd, THREAD_END.into()));
    steps.push((Step::Exit, exit.event()));
    steps
}

/// Is the event `kvm_userspace_exit`, which also says that the thread returns to the VMM?
fn is_user_exit(format: &Format) -> bool {
    format.is("kvm", "kvm_userspace_exit")
}

fn detail(
    index: usize,
    detail: &Detail,
    number: u32,
    places: &mut FieldPlaces,
) -> Result<DetailSettings, TimingError> {
    let Detail { kind, format } = detail;
    if index >= MAX_DETAILS {
        return Err(TimingError::TooManyDetails(index + 1));
    }
    let class = match &kind.class {
        Some(class) => integer(format, class)?,
        None => FieldPlace::none(0),
    };
    places.set(FieldId::DetailCode(index), integer(format, &kind.code)?);
    places.set(FieldId::DetailClass(index), class);
    Ok(DetailSettings {
        code_shift: kind.shift,
        skip_class: kind.skip_class.unwrap_or(NO_CLASS),
        kind: number,
        is_user: u32::from(is_user_exit(format)),
        ..DetailSettings::NONE
    })
}

fn place_exit(exit: &Format, places: &mut FieldPlaces) -> Result<(), TimingError> {
    let (class, code) = ReasonNames::fields(Some(exit));
    places.set(FieldId::ExitCode, required(exit, code, 4)?);
    places.set(FieldId::ExitClass, u32_place(Some(exit), class, 0));
    let vcpu = u32_place(Some(exit), "vcpu_id", VCPU_UNKNOWN);
    places.set(FieldId::ExitVcpu, vcpu);
    // On arm64 it is called so.
    let rip = ["guest_rip", "vcpu_pc"].map(|field| place_of(Some(exit), field, 8, 0));
    let there = rip.into_iter().find(|it| it.offset != NO_OFFSET);
    places.set(FieldId::ExitRip, there.unwrap_or(FieldPlace::none(0)));
    Ok(())
}
