//! What is asked for of timed VM exits, turned into settings and into programs to attach. Pure.

use std::time::Duration;

use kvm_ebpf_common::{
    DetailSettings, EXIT_SPAN_BYTES, MAX_DETAILS, NO_CLASS, NO_OFFSET, NO_SLOT, PairingSettings,
    RIP_CAUSE,
};

use super::plan::{
    COMMON_BYTES, Filter, MapSizes, PlanError, Request, offset, offset_of, u32_offset,
};
use crate::{
    model::Kind,
    tracefs::{Field, Format, ReasonNames},
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

impl Pairing {
    /// The settings that the kernel half would have, for who follows its rules elsewhere; those of as
    /// many details as there are.
    pub(crate) fn settings(
        &self,
        entry: Option<&Format>,
    ) -> Result<(PairingSettings, Vec<DetailSettings>), PlanError> {
        let plan = PairingPlan::of(
            self,
            &Request {
                events: &[],
                ship: false,
                per_thread: false,
                pairing: None,
                entry,
                filter: &Filter::default(),
                sizes: MapSizes::default(),
                log: false,
            },
        )?;
        let mut details = plan.details.to_vec();
        details.truncate(self.details().count());
        Ok((plan.settings, details))
    }

    /// The kinds of events that are counted, or causes, in the order of their settings.
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

/// A program, its event's system and its event.
type Program = (String, &'static str, String);

/// The kernel half's settings.
#[derive(Debug)]
pub(super) struct PairingPlan {
    pub(super) settings: PairingSettings,
    pub(super) details: [DetailSettings; MAX_DETAILS],
    /// What to attach, in this order.
    pub(super) programs: Vec<Program>,
    /// Events that have a slot, and are counted and shipped there by these programs.
    pub(super) slots_taken: Vec<usize>,
}

impl PairingPlan {
    pub(super) fn of(pairing: &Pairing, request: &Request<'_>) -> Result<Self, PlanError> {
        let by_reason = pairing.counted.is_none();
        let mut plan = Self {
            settings: PairingSettings {
                by_reason: u32::from(by_reason),
                causes: u32::from(pairing.rip_is_cause || !pairing.causes.is_empty()),
                slow_ns: pairing.slow.map_or(u64::MAX, |slow| {
                    u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX - 1)
                }),
                entry_vcpu_offset: u32_offset(request.entry, "vcpu_id"),
                ..PairingSettings::NONE
            },
            details: [DetailSettings::NONE; MAX_DETAILS],
            programs: Vec::new(),
            slots_taken: Vec::new(),
        };
        request.entry.ok_or(PlanError::NoEvent("kvm_entry"))?;
        let exit = pairing.exit.as_ref();
        plan.read_exit(exit.ok_or(PlanError::NoEvent("kvm_exit"))?)?;
        if pairing.rip_is_cause {
            plan.settings.rip_kind = RIP_CAUSE;
        }
        // `kvm_exit` last: were it first, the entry after a first exit could be missed, and that exit
        // have no end.
        plan.settings.entry_slot = plan.attach("vm_entry", true, "kvm_entry", request);
        let details = pairing.counted.iter().map(|detail| (detail, 0));
        let causes = pairing.causes.iter().zip(1..);
        for (index, (detail, number)) in details.chain(causes).enumerate() {
            plan.detail(index, detail, number, request)?;
        }
        if pairing.user.is_some() && plan.details.iter().all(|detail| detail.is_user == 0) {
            plan.settings.user_slot = plan.attach("user_exit", true, "kvm_userspace_exit", request);
        }
        plan.settings.wakeup_ns_offset = offset_of(pairing.wakeup.as_ref(), "ns", 8);
        if plan.settings.wakeup_ns_offset != NO_OFFSET {
            plan.settings.wakeup_slot = plan.attach("wakeup", false, "kvm_vcpu_wakeup", request);
        }
        if let Some(switch) = &pairing.switch {
            plan.settings.prev_state_offset = need(switch, "prev_state", 8)?;
            plan.settings.next_tid_offset = need(switch, "next_pid", 4)?;
            plan.programs
                .push(("switched".into(), "sched", "sched_switch".into()));
        }
        plan.programs.push((
            "vcpu_thread_end".into(),
            "sched",
            "sched_process_exit".into(),
        ));
        plan.settings.exit_slot = plan.attach("vm_exit", false, "kvm_exit", request);
        Ok(plan)
    }

    fn read_exit(&mut self, exit: &Format) -> Result<(), PlanError> {
        let (class, code) = ReasonNames::fields(Some(exit));
        let within = |offset: u32, bytes: usize| {
            let reach = COMMON_BYTES..=COMMON_BYTES + EXIT_SPAN_BYTES - bytes;
            if reach.contains(&(offset as usize)) {
                offset
            } else {
                NO_OFFSET
            }
        };
        self.settings.class_offset = within(u32_offset(Some(exit), class), 4);
        self.settings.code_offset = within(u32_offset(Some(exit), code), 4);
        self.settings.exit_vcpu_offset = within(u32_offset(Some(exit), "vcpu_id"), 4);
        // On arm64 it is called so.
        let rip = ["guest_rip", "vcpu_pc"].map(|field| offset_of(Some(exit), field, 8));
        self.settings.rip_offset = within(rip[0].min(rip[1]), 8);
        if self.settings.code_offset == NO_OFFSET {
            return Err(no_field(exit, code));
        }
        Ok(())
    }

    fn detail(
        &mut self,
        index: usize,
        detail: &Detail,
        number: u32,
        request: &Request<'_>,
    ) -> Result<(), PlanError> {
        let Detail { kind, format } = detail;
        let code = integer(format, &kind.code)?;
        let class = match &kind.class {
            Some(class) => Some(integer(format, class)?),
            None => None,
        };
        let slot = self.attach(&format!("detail_{index}"), false, &format.name, request);
        let settings = self
            .details
            .get_mut(index)
            .ok_or(PlanError::TooManyDetails(index + 1))?;
        *settings = DetailSettings {
            code_offset: offset(code).unwrap_or(NO_OFFSET),
            code_bytes: u32::try_from(code.size).unwrap_or(8),
            code_shift: kind.shift,
            class_offset: class.and_then(offset).unwrap_or(NO_OFFSET),
            class_bytes: class.map_or(4, |class| u32::try_from(class.size).unwrap_or(4)),
            skip_class: kind.skip_class.unwrap_or(NO_CLASS),
            kind: number,
            is_user: u32::from(format.name == "kvm_userspace_exit"),
            slot,
        };
        Ok(())
    }

    /// Attaches a program to an event; if the event has a slot, the program fills that as well, and its
    /// number is returned. A program that does not need the event's record otherwise has a cheaper
    /// variant.
    fn attach(&mut self, program: &str, has_raw: bool, event: &str, request: &Request<'_>) -> u32 {
        let slot = request
            .events
            .iter()
            .position(|it| it.system == "kvm" && it.name == event);
        self.slots_taken.extend(slot);
        let variant = if has_raw && slot.is_none() {
            "_raw"
        } else {
            ""
        };
        self.programs
            .push((format!("{program}{variant}"), "kvm", event.to_owned()));
        slot.and_then(|slot| u32::try_from(slot).ok())
            .unwrap_or(NO_SLOT)
    }
}

fn need(format: &Format, field: &str, bytes: usize) -> Result<u32, PlanError> {
    match offset_of(Some(format), field, bytes) {
        NO_OFFSET => Err(no_field(format, field)),
        offset => Ok(offset),
    }
}

/// A field that is a whole number of a length the kernel half can read.
fn integer<'a>(format: &'a Format, field: &str) -> Result<&'a Field, PlanError> {
    format
        .field(field)
        .filter(|it| matches!(it.size, 1 | 2 | 4 | 8) && !it.is_dynamic())
        .ok_or_else(|| no_field(format, field))
}

fn no_field(format: &Format, field: &str) -> PlanError {
    let names: Vec<_> = format.fields.iter().map(|it| it.name.as_str()).collect();
    PlanError::NoField {
        event: format.event().to_string(),
        field: field.to_owned(),
        there_are: names.join(", "),
    }
}
