//! The plan for a request to time exits: settings, field locations, and which steps each event
//! triggers.
//!
//! Live and recorded sources share it: `probe` attaches an eBPF program for each step, and
//! [`Replay`](super::Replay) executes the steps itself.

use kvm_ebpf_common::{
    DetailSettings, FieldId, FieldLocation, GUEST_RIP_KIND, MAX_DETAILS, NO_OFFSET, NO_SUBCODE,
    TimingSettings, VCPU_UNKNOWN,
};

use super::{
    DetailEvent, FieldLocations, TimingError, TimingRequest,
    fields::{locate, locate_integer, locate_required, locate_u32},
    vcpus_are_named,
};
use crate::tracefs::{EventName, Format, ReasonNames};

/// The event for the end of a thread: system and name.
pub(crate) const THREAD_END_EVENT: (&str, &str) = ("sched", "sched_process_exit");

/// What one event changes in the state of vCPU threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `kvm_entry` tells the vCPU of its thread, if `kvm_exit` does not.
    LearnVcpu,
    /// The vCPU enters the guest.
    Entry,
    /// An event within an exit that is counted or tells the cause. The number is its index in
    /// [`TimingPlan::details`].
    Detail(u8),
    /// The thread returns to the VMM, in user space.
    UserspaceExit,
    /// The vCPU was halted until now.
    Wakeup,
    /// A CPU switches from one thread to another.
    Switch,
    /// A thread ends.
    ThreadEnd,
    /// The vCPU leaves the guest.
    Exit,
}

/// How exits are timed, as requested by a [`TimingRequest`].
#[derive(Debug)]
pub(crate) struct TimingPlan {
    /// The settings of the eBPF programs.
    pub(crate) settings: TimingSettings,
    /// Settings of each event that is counted or tells a cause, in the order of
    /// [`TimingRequest::details`].
    pub(crate) details: Vec<DetailSettings>,
    /// All steps with their events, in the order in which they take effect. Programs are attached
    /// in this order, and the programs of one event run in this order.
    pub(crate) steps: Vec<(Step, EventName)>,
    /// Locations of the fields that the steps read.
    pub(crate) field_locations: FieldLocations,
    /// Whether neither `kvm_exit` nor `kvm_entry` tells which vCPU a thread runs, so names of threads do.
    pub(crate) vcpus_are_named: bool,
}

impl TimingPlan {
    /// Creates the plan for a request.
    ///
    /// # Errors
    /// [`TimingError`] if an event or a field is missing, or if there are too many events.
    pub(crate) fn new(request: &TimingRequest) -> Result<Self, TimingError> {
        let entry = request
            .entry
            .as_ref()
            .ok_or(TimingError::NoEvent("kvm_entry"))?;
        let exit = request
            .exit
            .as_ref()
            .ok_or(TimingError::NoEvent("kvm_exit"))?;
        let mut locations = FieldLocations::default();
        locate_exit_fields(exit, &mut locations)?;
        let entry_vcpu = locate_u32(Some(entry), "vcpu_id", VCPU_UNKNOWN);
        locations.set(FieldId::EntryVcpu, entry_vcpu);
        if let Some(wakeup) = &request.wakeup {
            locations.set(FieldId::WakeupNs, locate_required(wakeup, "ns", 8)?);
        }
        if let Some(switch) = &request.switch {
            locations.set(
                FieldId::SwitchPrevState,
                locate_required(switch, "prev_state", 8)?,
            );
            locations.set(
                FieldId::SwitchNextTid,
                locate_required(switch, "next_pid", 4)?,
            );
        }
        let numbers = request.counted_event.iter().map(|_| 0);
        let numbers = numbers.chain(
            request
                .cause_events
                .iter()
                .zip(1..)
                .map(|(_, number)| number),
        );
        let details = request.details().zip(numbers).enumerate();
        let details = details
            .map(|(index, (it, number))| plan_detail(index, it, number, &mut locations))
            .collect::<Result<Vec<_>, _>>()?;
        let exits_have_vcpus = locations.get(FieldId::ExitVcpu).offset != NO_OFFSET;
        let learns_vcpus = !exits_have_vcpus && entry_vcpu.offset != NO_OFFSET;
        Ok(Self {
            settings: TimingSettings {
                by_reason: u32::from(request.counted_event.is_none()),
                stores_causes: u32::from(request.rip_is_cause || !request.cause_events.is_empty()),
                slow_ns: request.slow_threshold.map_or(u64::MAX, |slow| {
                    u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX - 1)
                }),
                rip_kind: if request.rip_is_cause {
                    GUEST_RIP_KIND
                } else {
                    0
                },
                ..TimingSettings::NONE
            },
            vcpus_are_named: vcpus_are_named([entry, exit]),
            steps: plan_steps(request, entry, exit, learns_vcpus),
            details,
            field_locations: locations,
        })
    }
}

/// Lists the steps in the order in which they take effect.
///
/// The order decides which program of one event runs first. `kvm_exit` is attached last: otherwise
/// the entry after the first counted exit could be missed.
fn plan_steps(
    request: &TimingRequest,
    entry: &Format,
    exit: &Format,
    learns_vcpus: bool,
) -> Vec<(Step, EventName)> {
    let mut steps = Vec::new();
    if learns_vcpus {
        steps.push((Step::LearnVcpu, entry.event_name()));
    }
    steps.push((Step::Entry, entry.event_name()));
    let details = (0..).zip(request.details());
    steps.extend(details.map(|(number, it)| (Step::Detail(number), it.format.event_name())));
    if let Some(user) = &request.userspace_exit
        && request.details().all(|it| !is_userspace_exit(&it.format))
    {
        steps.push((Step::UserspaceExit, user.event_name()));
    }
    let wakeup = request.wakeup.iter();
    steps.extend(wakeup.map(|it| (Step::Wakeup, it.event_name())));
    let switch = request.switch.iter();
    steps.extend(switch.map(|it| (Step::Switch, it.event_name())));
    steps.push((Step::ThreadEnd, THREAD_END_EVENT.into()));
    steps.push((Step::Exit, exit.event_name()));
    steps
}

/// Returns whether the event is `kvm_userspace_exit`, which also tells that the thread returns to
/// the VMM.
fn is_userspace_exit(format: &Format) -> bool {
    format.is_event("kvm", "kvm_userspace_exit")
}

fn plan_detail(
    index: usize,
    detail: &DetailEvent,
    number: u32,
    locations: &mut FieldLocations,
) -> Result<DetailSettings, TimingError> {
    let DetailEvent { kind, format } = detail;
    if index >= MAX_DETAILS {
        return Err(TimingError::TooManyDetails(index + 1));
    }
    let locate_field = |field: &str| {
        locate_integer(format, field).map_err(|error| match error {
            TimingError::NoField {
                event,
                field,
                available,
            } => TimingError::NoKindField {
                kind: kind.name.clone(),
                event,
                field,
                available,
            },
            other => other,
        })
    };
    let subcode = match &kind.subcode_field {
        Some(field) => locate_field(field)?,
        None => FieldLocation::absent(0),
    };
    locations.set(FieldId::DetailCode(index), locate_field(&kind.code_field)?);
    locations.set(FieldId::DetailSubcode(index), subcode);
    Ok(DetailSettings {
        code_shift: kind.code_shift,
        cleared_bits: kind.cleared_bits,
        skip_subcode: kind.skip_subcode.unwrap_or(NO_SUBCODE),
        kind: number,
        is_userspace_exit: u32::from(is_userspace_exit(format)),
        ..DetailSettings::NONE
    })
}

fn locate_exit_fields(exit: &Format, locations: &mut FieldLocations) -> Result<(), TimingError> {
    let (subcode, code) = ReasonNames::reason_fields(Some(exit));
    locations.set(FieldId::ExitCode, locate_required(exit, code, 4)?);
    locations.set(FieldId::ExitSubcode, locate_u32(Some(exit), subcode, 0));
    let vcpu = locate_u32(Some(exit), "vcpu_id", VCPU_UNKNOWN);
    locations.set(FieldId::ExitVcpu, vcpu);
    // `vcpu_pc` is the name on arm64.
    let rip = ["guest_rip", "vcpu_pc"].map(|field| locate(Some(exit), field, 8, 0));
    let rip = rip.into_iter().find(|it| it.offset != NO_OFFSET);
    locations.set(FieldId::ExitRip, rip.unwrap_or(FieldLocation::absent(0)));
    Ok(())
}
