//! The programs that time exits: one for each step of the timing plan.

use kvm_ebpf_common::{DetailSettings, MAX_DETAILS, NO_SLOT, TimingSettings};

use super::request::{PlanError, Request};
use crate::{
    timing::{FieldLocations, Step, TimingPlan, TimingRequest},
    tracefs::{EventName, Format},
};

/// A program, and the event to attach it to.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) program: String,
    pub(super) event: EventName,
    /// Id of the event. Raw tracepoints do not need it.
    pub(super) id: u16,
}

/// The programs that time exits, and their settings.
#[derive(Debug)]
pub(super) struct TimingPrograms {
    pub(super) settings: TimingSettings,
    pub(super) details: [DetailSettings; MAX_DETAILS],
    /// What to attach, in this order.
    pub(super) attachments: Vec<Attachment>,
    /// Slots of the events that these programs also count and send to user space.
    pub(super) handled_slots: Vec<usize>,
    pub(super) vcpus_are_named: bool,
    has_userspace_exits: bool,
}

impl TimingPrograms {
    /// Plans the programs. Also returns the locations of the fields that they read.
    pub(super) fn new(
        timing: &TimingRequest,
        request: &Request<'_>,
    ) -> Result<(Self, FieldLocations), PlanError> {
        let plan = TimingPlan::new(timing)?;
        let mut details = [DetailSettings::NONE; MAX_DETAILS];
        details[..plan.details.len()].copy_from_slice(&plan.details);
        let mut programs = Self {
            settings: plan.settings,
            details,
            attachments: Vec::new(),
            handled_slots: Vec::new(),
            vcpus_are_named: plan.vcpus_are_named,
            has_userspace_exits: timing.userspace_exit.is_some(),
        };
        // If only exits by reason are requested, shorter variants of the programs are enough.
        let plain = timing.is_by_reason_only() && !request.needs_task() && !request.log;
        let raw = if plain { "_plain" } else { "_raw" };
        for (step, event) in &plan.steps {
            let id = timing.format_of(event).map_or(0, |format| format.id);
            let mut attach = |program: &str, suffix: &str| {
                programs.attach(program, suffix, event, id, request.events)
            };
            match step {
                Step::LearnVcpu => programs.attach_without_slot("learn_vcpu", event, id),
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
                Step::ThreadEnd => programs.attach_without_slot("vcpu_thread_end", event, id),
                Step::Exit => {
                    let suffix = if plain { "_plain" } else { "" };
                    programs.settings.exit_slot = attach("vm_exit", suffix);
                }
            }
        }
        Ok((programs, plan.field_locations))
    }

    /// Returns whether the programs notice that a vCPU has moved to another thread. For that, events must contain the vCPU's
    /// index, and show when a thread returns to user space.
    pub(super) fn sees_moving_vcpus(&self) -> bool {
        !self.vcpus_are_named && self.has_userspace_exits
    }

    /// Attaches a program to an event. If the event has a slot, the program also handles that. Returns the slot, or
    /// [`NO_SLOT`]. `suffix` names a shorter variant of the program for an event without a slot; it may be empty.
    fn attach(
        &mut self,
        program: &str,
        suffix: &str,
        event: &EventName,
        id: u16,
        events: &[Format],
    ) -> u32 {
        let slot = events
            .iter()
            .position(|format| format.event_name() == *event);
        self.handled_slots.extend(slot);
        let suffix = if slot.is_none() { suffix } else { "" };
        self.attach_without_slot(&format!("{program}{suffix}"), event, id);
        slot.and_then(|slot| u32::try_from(slot).ok())
            .unwrap_or(NO_SLOT)
    }

    /// Attaches a program that handles no slot.
    fn attach_without_slot(&mut self, program: &str, event: &EventName, id: u16) {
        self.attachments.push(Attachment {
            program: program.to_owned(),
            event: event.clone(),
            id,
        });
    }
}
