//! What is asked for of timed VM exits, turned into settings and into programs to attach. Pure.

use std::time::Duration;

use kvm_ebpf_common::{
    DetailSettings, FIELDS, FieldId, FieldPlace, MAX_DETAILS, NO_CLASS, NO_OFFSET, NO_SLOT,
    PairingSettings, RIP_CAUSE, VCPU_UNKNOWN,
};

use super::{
    bind::{Places, place},
    plan::{Filter, MapSizes, PlanError, Request, THREAD_END, place_of, u32_place},
};
use crate::{
    model::Kind,
    tracefs::{EventName, Format, ReasonNames},
};

/// What is wanted of VM exits.
#[derive(Debug, Default)]
pub struct Pairing {
    /// The format of `kvm_exit`, where the kernel has it.
    pub exit: Option<Format>,
    /// The format of `kvm_userspace_exit`; without it, time in user space is not told apart.
    pub user: Option<Format>,
    /// The format of `kvm_vcpu_wakeup`; without it, time halted is not told apart.
    pub wakeup: Option<Format>,
    /// The format of `sched_switch`, if it is wanted to know when a thread was ready and did not run.
    pub switch: Option<Format>,
    /// What is counted, if it is not exits by their reason.
    pub counted: Option<Detail>,
    /// What may be the cause of an exit. The last one to happen is.
    pub causes: Vec<Detail>,
    /// Where the guest was is the cause.
    pub rip_is_cause: bool,
    /// Exits longer than this are reported as they end.
    pub slow: Option<Duration>,
}

/// How exits are timed, for who follows the kernel half's rules elsewhere.
#[derive(Debug)]
pub(crate) struct PairingRules {
    /// What the kernel half would be told.
    pub(crate) settings: PairingSettings,
    /// Of each kind of event that is counted, or a cause; in the order of [`Pairing::details`].
    pub(crate) details: Vec<DetailSettings>,
    /// Whether exits themselves say which vCPU they are of.
    pub(crate) exits_have_vcpus: bool,
    places: Box<Places>,
}

impl PairingRules {
    /// Where a field is.
    pub(crate) fn place(&self, field: FieldId) -> FieldPlace {
        self.places[field.number()]
    }
}

impl Pairing {
    /// The rules that the kernel half would follow.
    pub(crate) fn rules(&self, entry: Option<&Format>) -> Result<PairingRules, PlanError> {
        let request = Request {
            events: &[],
            ship: false,
            per_thread: false,
            pairing: Some(self),
            entry,
            filter: &Filter::default(),
            skip_processes: false,
            sizes: MapSizes::default(),
            log: false,
        };
        let mut places = Box::new([FieldPlace::none(0); FIELDS]);
        let entry_vcpu = u32_place(entry, "vcpu_id", VCPU_UNKNOWN);
        place(&mut places, FieldId::EntryVcpu, entry_vcpu);
        let plan = PairingPlan::of(self, &request, &mut places)?;
        let mut details = plan.details.to_vec();
        details.truncate(self.details().count());
        Ok(PairingRules {
            settings: plan.settings,
            details,
            exits_have_vcpus: plan.exits_have_vcpus,
            places,
        })
    }

    /// Is no more wanted than exits by their reason?
    fn is_plain(&self) -> bool {
        self.details().next().is_none() && !self.rip_is_cause && self.slow.is_none()
    }

    /// The kinds of events that are counted, or causes.
    pub(crate) fn details(&self) -> impl Iterator<Item = &Detail> {
        self.counted.iter().chain(&self.causes)
    }
}

/// A kind of event, and its format.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The kind.
    pub kind: Kind,
    /// Its event's format.
    pub format: Format,
}

/// A program, and the event it is for.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) program: String,
    pub(super) event: EventName,
    /// The event's id; raw tracepoints go by name.
    pub(super) id: u16,
}

/// The kernel half's settings.
#[derive(Debug)]
pub(super) struct PairingPlan {
    pub(super) settings: PairingSettings,
    pub(super) details: [DetailSettings; MAX_DETAILS],
    /// Whether exits themselves say which vCPU they are of.
    pub(super) exits_have_vcpus: bool,
    /// What to attach, in this order.
    pub(super) uses: Vec<Use>,
    /// Events that have a slot, and are counted and shipped there by these programs.
    pub(super) slots_taken: Vec<usize>,
}

impl PairingPlan {
    /// Also says where the fields are that its programs read.
    pub(super) fn of(
        pairing: &Pairing,
        request: &Request<'_>,
        places: &mut Places,
    ) -> Result<Self, PlanError> {
        let entry = request.entry.ok_or(PlanError::NoEvent("kvm_entry"))?;
        let exit = pairing.exit.as_ref();
        let exit = exit.ok_or(PlanError::NoEvent("kvm_exit"))?;
        let mut plan = Self {
            settings: PairingSettings {
                by_reason: u32::from(pairing.counted.is_none()),
                causes: u32::from(pairing.rip_is_cause || !pairing.causes.is_empty()),
                slow_ns: pairing.slow.map_or(u64::MAX, |slow| {
                    u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX - 1)
                }),
                rip_kind: if pairing.rip_is_cause { RIP_CAUSE } else { 0 },
                ..PairingSettings::NONE
            },
            details: [DetailSettings::NONE; MAX_DETAILS],
            exits_have_vcpus: u32_place(Some(exit), "vcpu_id", VCPU_UNKNOWN).offset != NO_OFFSET,
            uses: Vec::new(),
            slots_taken: Vec::new(),
        };
        place_exit(exit, places)?;
        // `kvm_exit` last: were it first, the entry after a first exit could be missed, and that exit
        // have no end.
        let plain = pairing.is_plain() && !request.is_by_task() && !request.log;
        let raw = if plain { "_plain" } else { "_raw" };
        plan.settings.entry_slot = plan.attach("vm_entry", raw, entry, request);
        let details = pairing.counted.iter().map(|detail| (detail, 0));
        let causes = pairing.causes.iter().zip(1..);
        for (index, (detail, number)) in details.chain(causes).enumerate() {
            plan.detail(index, detail, number, request, places)?;
        }
        if let Some(user) = &pairing.user
            && plan.details.iter().all(|detail| detail.is_user == 0)
        {
            plan.settings.user_slot = plan.attach("user_exit", raw, user, request);
        }
        if let Some(wakeup) = &pairing.wakeup {
            place(places, FieldId::WakeupNs, need(wakeup, "ns", 8)?);
            plan.settings.wakeup_slot = plan.attach("wakeup", "", wakeup, request);
        }
        if let Some(switch) = &pairing.switch {
            let state = need(switch, "prev_state", 8)?;
            place(places, FieldId::SwitchPrevState, state);
            place(places, FieldId::SwitchNextTid, need(switch, "next_pid", 4)?);
            plan.attach("switched", "", switch, request);
        }
        plan.uses.push(Use {
            program: "vcpu_thread_end".into(),
            event: THREAD_END.into(),
            id: 0,
        });
        plan.settings.exit_slot =
            plan.attach("vm_exit", if plain { "_plain" } else { "" }, exit, request);
        Ok(plan)
    }

    /// Is it seen when a thread returns to user space?
    pub(super) fn has_user_exits(&self) -> bool {
        let is_user_exit = |it: &Use| it.event.name == "kvm_userspace_exit";
        self.uses.iter().any(is_user_exit)
    }

    fn detail(
        &mut self,
        index: usize,
        detail: &Detail,
        number: u32,
        request: &Request<'_>,
        places: &mut Places,
    ) -> Result<(), PlanError> {
        let Detail { kind, format } = detail;
        let code = integer(format, &kind.code)?;
        let class = match &kind.class {
            Some(class) => integer(format, class)?,
            None => FieldPlace::none(0),
        };
        let slot = self.attach(&format!("detail_{index}"), "", format, request);
        let settings = self
            .details
            .get_mut(index)
            .ok_or(PlanError::TooManyDetails(index + 1))?;
        *settings = DetailSettings {
            code_shift: kind.shift,
            skip_class: kind.skip_class.unwrap_or(NO_CLASS),
            kind: number,
            is_user: u32::from(format.name == "kvm_userspace_exit"),
            slot,
        };
        place(places, FieldId::DetailCode(index), code);
        place(places, FieldId::DetailClass(index), class);
        Ok(())
    }

    /// Attaches a program to an event; if the event has a slot, the program fills that as well, and its
    /// number is returned. If it has none, a program may have a cheaper variant.
    fn attach(
        &mut self,
        program: &str,
        cheaper: &str,
        event: &Format,
        request: &Request<'_>,
    ) -> u32 {
        let same = |it: &Format| it.is(&event.system, &event.name);
        let slot = request.events.iter().position(same);
        self.slots_taken.extend(slot);
        let variant = if slot.is_none() { cheaper } else { "" };
        self.uses.push(Use {
            program: format!("{program}{variant}"),
            event: event.event(),
            id: event.id,
        });
        slot.and_then(|slot| u32::try_from(slot).ok())
            .unwrap_or(NO_SLOT)
    }
}

fn place_exit(exit: &Format, places: &mut Places) -> Result<(), PlanError> {
    let (class, code) = ReasonNames::fields(Some(exit));
    place(places, FieldId::ExitCode, need(exit, code, 4)?);
    place(places, FieldId::ExitClass, u32_place(Some(exit), class, 0));
    let vcpu = u32_place(Some(exit), "vcpu_id", VCPU_UNKNOWN);
    place(places, FieldId::ExitVcpu, vcpu);
    // On arm64 it is called so.
    let rip = ["guest_rip", "vcpu_pc"].map(|field| place_of(Some(exit), field, 8, 0));
    let there = rip.into_iter().find(|it| it.offset != NO_OFFSET);
    place(
        places,
        FieldId::ExitRip,
        there.unwrap_or(FieldPlace::none(0)),
    );
    Ok(())
}

fn need(format: &Format, field: &str, bytes: usize) -> Result<FieldPlace, PlanError> {
    let place = place_of(Some(format), field, bytes, 0);
    match place.offset {
        NO_OFFSET => Err(no_field(format, field)),
        _ => Ok(place),
    }
}

/// A field that is a whole number of a length the kernel half can read.
fn integer(format: &Format, field: &str) -> Result<FieldPlace, PlanError> {
    let bytes = format
        .field(field)
        .filter(|it| matches!(it.size, 1 | 2 | 4 | 8) && !it.is_dynamic())
        .map(|it| it.size);
    need(format, field, bytes.unwrap_or(0))
}

fn no_field(format: &Format, field: &str) -> PlanError {
    let names: Vec<_> = format.fields.iter().map(|it| it.name.as_str()).collect();
    PlanError::NoField {
        event: format.event().to_string(),
        field: field.to_owned(),
        there_are: names.join(", "),
    }
}
