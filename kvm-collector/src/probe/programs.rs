//! The programs that time exits: one for each step of the plan.

use kvm_ebpf_common::{DetailSettings, MAX_DETAILS, NO_SLOT, TimingSettings};

use super::request::{PlanError, Request};
use crate::{
    timing::{FieldLocations, Step, TimingPlan, TimingRequest},
    tracefs::{EventName, Format},
};

/// A program, and the event it is for.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) program: String,
    pub(super) event: EventName,
    /// The event's id; raw tracepoints go by name.
    pub(super) id: u16,
}

/// What the programs that time exits are told, and which they are.
#[derive(Debug)]
pub(super) struct TimingPrograms {
    pub(super) settings: TimingSettings,
    pub(super) details: [DetailSettings; MAX_DETAILS],
    /// What to attach, in this order.
    pub(super) uses: Vec<Use>,
    /// Events that have a slot, and are counted and shipped there by these programs.
    pub(super) slots_taken: Vec<usize>,
    exits_have_vcpus: bool,
    has_user_exits: bool,
}

impl TimingPrograms {
    /// Plans the programs, and says where the fields are that they read.
    pub(super) fn of(
        pairing: &TimingRequest,
        request: &Request<'_>,
    ) -> Result<(Self, FieldLocations), PlanError> {
        let plan = TimingPlan::new(pairing)?;
        let mut details = [DetailSettings::NONE; MAX_DETAILS];
        details[..plan.details.len()].copy_from_slice(&plan.details);
        let mut programs = Self {
            settings: plan.settings,
            details,
            uses: Vec::new(),
            slots_taken: Vec::new(),
            exits_have_vcpus: plan.knows_vcpus,
            has_user_exits: pairing.userspace_exit.is_some(),
        };
        // Where no more is requested than exits by their reason, there are shorter programs.
        let plain = pairing.is_by_reason_only() && !request.needs_task() && !request.log;
        let raw = if plain { "_plain" } else { "_raw" };
        for (step, event) in &plan.steps {
            let id = pairing.format_of(event).map_or(0, |it| it.id);
            let mut attach = |program: &str, shorter: &str| {
                programs.attach(program, shorter, event, id, request.events)
            };
            match step {
                Step::LearnVcpu => programs.use_alone("learn_vcpu", event, id),
                Step::Entry => programs.settings.entry_slot = attach("vm_entry", raw),
                Step::Detail(number) => {
                    let slot = attach(&format!("detail_{number}"), "");
                    programs.details[usize::from(*number)].slot = slot;
                }
                Step::UserspaceExit => {
                    programs.settings.userspace_exit_slot = attach("user_exit", raw)
                }
                Step::Wakeup => programs.settings.wakeup_slot = attach("wakeup", ""),
                Step::Switch => {
                    attach("switched", "");
                }
                Step::ThreadEnd => programs.use_alone("vcpu_thread_end", event, id),
                Step::Exit => {
                    let shorter = if plain { "_plain" } else { "" };
                    programs.settings.exit_slot = attach("vm_exit", shorter);
                }
            }
        }
        Ok((programs, plan.field_locations))
    }

    /// Is it seen which vCPU a thread runs, and when it returns to user space?
    pub(super) fn knows_turns(&self) -> bool {
        self.exits_have_vcpus && self.has_user_exits
    }

    /// Attaches a program to an event; if the event has a slot, the program fills that as well, and its
    /// number is returned. If it has none, a program may have a shorter variant.
    fn attach(
        &mut self,
        program: &str,
        shorter: &str,
        event: &EventName,
        id: u16,
        events: &[Format],
    ) -> u32 {
        let slot = events.iter().position(|it| it.event_name() == *event);
        self.slots_taken.extend(slot);
        let variant = if slot.is_none() { shorter } else { "" };
        self.use_alone(&format!("{program}{variant}"), event, id);
        slot.and_then(|slot| u32::try_from(slot).ok())
            .unwrap_or(NO_SLOT)
    }

    /// Attaches a program to an event that fills no slot.
    fn use_alone(&mut self, program: &str, event: &EventName, id: u16) {
        self.uses.push(Use {
            program: program.to_owned(),
            event: event.clone(),
            id,
        });
    }
}
