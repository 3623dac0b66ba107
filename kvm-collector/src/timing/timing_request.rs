//! A request to time VM exits.

use std::{convert::Infallible, time::Duration};

use crate::{
    model::EventKind,
    tracefs::{EventName, Format},
};

/// How VM exits are timed, and from which events.
#[derive(Debug, Clone, Default)]
pub struct TimingRequest {
    /// The format of `kvm_exit`; `None` if the kernel does not have it.
    pub exit: Option<Format>,
    /// The format of `kvm_entry`; `None` if the kernel does not have it.
    pub entry: Option<Format>,
    /// The format of `kvm_userspace_exit`; without it, time in the VMM is not measured.
    pub userspace_exit: Option<Format>,
    /// The format of `kvm_vcpu_wakeup`; without it, halted time is not measured.
    pub wakeup: Option<Format>,
    /// The format of `sched_switch`; without it, preemption is not measured.
    pub switch: Option<Format>,
    /// The value of the field `isa` in all exits of the host, if it is known.
    pub host_isa: Option<u32>,
    /// The events that are counted; `None` counts exits by reason.
    pub counted_event: Option<DetailEvent>,
    /// Events that tell the cause of an exit. The last one before the exit's end is the cause.
    pub cause_events: Vec<DetailEvent>,
    /// Whether the guest's instruction pointer is the cause of an exit.
    pub rip_is_cause: bool,
    /// Exits longer than this, without halted time, are reported when they end.
    pub slow_threshold: Option<Duration>,
}

/// An event within an exit that is counted, or that tells the cause of the exit.
#[derive(Debug, Clone)]
pub struct DetailEvent {
    /// The event's kind.
    pub kind: EventKind,
    /// The event's format.
    pub format: Format,
}

impl DetailEvent {
    /// Returns the events that give exits causes by default: those whose format `find` returns. `find` gets the names
    /// of kvm events.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn default_causes<E>(
        mut find: impl FnMut(&str) -> Result<Option<Format>, E>,
    ) -> Result<Vec<Self>, E> {
        let mut events = Vec::new();
        for kind in EventKind::cause_kinds() {
            if let Some(format) = find(&kind.event)? {
                events.push(Self { kind, format });
            }
        }
        Ok(events)
    }
}

impl TimingRequest {
    /// Returns whether only exits by reason are requested: no other event, no causes, no slow
    /// exits.
    pub(crate) fn is_by_reason_only(&self) -> bool {
        self.details().next().is_none() && !self.rip_is_cause && self.slow_threshold.is_none()
    }

    /// Iterates over the events that are counted or tell a cause.
    pub(crate) fn details(&self) -> impl Iterator<Item = &DetailEvent> {
        self.counted_event.iter().chain(&self.cause_events)
    }

    /// Iterates over the formats of all requested events.
    pub(crate) fn formats(&self) -> impl Iterator<Item = &Format> {
        let single = [
            &self.entry,
            &self.exit,
            &self.userspace_exit,
            &self.wakeup,
            &self.switch,
        ];
        let single = single.into_iter().flatten();
        single.chain(self.details().map(|it| &it.format))
    }

    /// Returns the format of an event; `None` if the event is not requested.
    pub(crate) fn format_of(&self, event: &EventName) -> Option<&Format> {
        self.formats().find(|it| it.event_name() == *event)
    }

    /// Returns the names of the parts of an exit's time that are not measured. They are in `kernel_ns`.
    #[must_use]
    pub fn unmeasured_parts(&self) -> Vec<&'static str> {
        let parts = [
            (&self.userspace_exit, "vmm_ns"),
            (&self.wakeup, "halted_ns"),
        ];
        let unmeasured = parts.iter().filter(|(event, _)| event.is_none());
        unmeasured.map(|(_, part)| *part).collect()
    }

    /// Requests exits by reason, timed with all events in `formats` that can be used for this,
    /// except `sched_switch`.
    #[must_use]
    pub fn from_formats(formats: &[Format]) -> Self {
        let find = |name| formats.iter().find(|it| it.is_event("kvm", name)).cloned();
        Self {
            exit: find("kvm_exit"),
            entry: find("kvm_entry"),
            userspace_exit: find("kvm_userspace_exit"),
            wakeup: find("kvm_vcpu_wakeup"),
            ..Self::default()
        }
    }

    /// As [`TimingRequest::from_formats`], but also with the causes of exits, and with `sched_switch` if
    /// `formats` has it.
    #[must_use]
    pub fn with_causes_from_formats(formats: &[Format]) -> Self {
        let find = |system: &str, name: &str| {
            let format = formats.iter().find(|it| it.is_event(system, name));
            format.cloned()
        };
        let Ok(cause_events) =
            DetailEvent::default_causes(|name| Ok::<_, Infallible>(find("kvm", name)));
        Self {
            switch: find("sched", "sched_switch"),
            cause_events,
            ..Self::from_formats(formats)
        }
    }
}
