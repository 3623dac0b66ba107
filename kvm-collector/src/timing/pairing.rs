//! What is requested of the timing of VM exits.

use std::time::Duration;

use crate::{
    model::Kind,
    tracefs::{EventName, Format},
};

/// How VM exits are to be timed, and from which events.
#[derive(Debug, Clone, Default)]
pub struct Pairing {
    /// The format of `kvm_exit`, where the kernel has it.
    pub exit: Option<Format>,
    /// The format of `kvm_entry`, where the kernel has it.
    pub entry: Option<Format>,
    /// The format of `kvm_userspace_exit`; without it, time in user space is not measured.
    pub user: Option<Format>,
    /// The format of `kvm_vcpu_wakeup`; without it, halted time is not measured.
    pub wakeup: Option<Format>,
    /// The format of `sched_switch`, if preemption is to be measured.
    pub switch: Option<Format>,
    /// The events that are counted, if they are not exits by their reason.
    pub counted: Option<Detail>,
    /// Events that may be the cause of an exit. The last one to happen is.
    pub causes: Vec<Detail>,
    /// The guest's instruction pointer is the cause.
    pub rip_is_cause: bool,
    /// Exits longer than this, without halted time, are reported as they end.
    pub slow: Option<Duration>,
}

/// A kind of event, and its format.
#[derive(Debug, Clone)]
pub struct Detail {
    /// The kind.
    pub kind: Kind,
    /// Its event's format.
    pub format: Format,
}

impl Pairing {
    /// Is no more requested than exits by their reason?
    pub(crate) fn is_plain(&self) -> bool {
        self.details().next().is_none() && !self.rip_is_cause && self.slow.is_none()
    }

    /// The kinds of events that are counted, or causes.
    pub(crate) fn details(&self) -> impl Iterator<Item = &Detail> {
        self.counted.iter().chain(&self.causes)
    }

    /// All formats that are given.
    pub(crate) fn formats(&self) -> impl Iterator<Item = &Format> {
        let single = [
            &self.entry,
            &self.exit,
            &self.user,
            &self.wakeup,
            &self.switch,
        ];
        let single = single.into_iter().flatten();
        single.chain(self.details().map(|it| &it.format))
    }

    /// The format of an event, if it is given.
    pub(crate) fn format_of(&self, event: &EventName) -> Option<&Format> {
        self.formats().find(|it| it.event() == *event)
    }

    /// What times exits by their reason, from these formats: each event that is among them is used, but
    /// `sched_switch` only for preemption.
    #[must_use]
    pub fn among(formats: &[Format]) -> Self {
        let find = |name| formats.iter().find(|it| it.is("kvm", name)).cloned();
        Self {
            exit: find("kvm_exit"),
            entry: find("kvm_entry"),
            user: find("kvm_userspace_exit"),
            wakeup: find("kvm_vcpu_wakeup"),
            ..Self::default()
        }
    }
}
