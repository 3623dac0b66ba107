//! The event formats of the running kernel or of a recording, and the words for them in messages.

use std::path::Path;

use super::{tracefs::find_format, usage::UsageError};
use crate::{
    model::EventKind,
    timing::{DetailEvent, TimingError},
    tracefs::{Format, Tracefs, did_you_mean, similar_names},
};

/// Where the formats of events come from.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) enum EventFormats<'a> {
    /// The running kernel.
    Kernel(&'a Tracefs),
    /// A recording, with its file.
    Recording(&'a [Format], &'a Path),
}

impl EventFormats<'_> {
    /// Returns the format of an event; `None` if there is no such event.
    pub(in crate::cli) fn find(&self, system: &str, name: &str) -> anyhow::Result<Option<Format>> {
        match self {
            Self::Kernel(tracefs) => find_format(tracefs, system, name),
            Self::Recording(formats, _) => {
                Ok(formats.iter().find(|it| it.is_event(system, name)).cloned())
            }
        }
    }

    /// Returns the format of `sched_switch` if preempted time is measured. In a recording, it is measured
    /// whenever the recording has this event. In the running kernel, it has a cost, so it is measured only if
    /// it is required.
    ///
    /// # Errors
    /// When it is required, and there is no such event.
    pub(in crate::cli) fn switch(&self, is_required: bool) -> anyhow::Result<Option<Format>> {
        match self {
            Self::Kernel(_) if !is_required => Ok(None),
            Self::Recording(..) if !is_required => self.find("sched", "sched_switch"),
            _ => self.require_switch().map(Some),
        }
    }

    fn require_switch(&self) -> anyhow::Result<Format> {
        self.find("sched", "sched_switch")?.ok_or_else(|| {
            let (owner, list) = (self.owner(), self.list_command());
            let advice = match self {
                Self::Kernel(_) => String::new(),
                Self::Recording(..) => "; `record --preempt` records it".to_owned(),
            };
            let message = format!(
                "preempted time needs the event sched:sched_switch, which {owner} does not have: {list} shows its events{advice}"
            );
            UsageError(message).into()
        })
    }

    /// Adds the event's format to a kind of event.
    ///
    /// # Errors
    /// When there is no such event, or the event has no such field. Similar names are suggested.
    pub(in crate::cli) fn require_kind(&self, kind: EventKind) -> anyhow::Result<DetailEvent> {
        for kind in kind.of_all_architectures() {
            if let Some(format) = self.find("kvm", &kind.event)? {
                if format.field(&kind.code_field).is_none() {
                    let error = TimingError::no_field(&format, &kind.code_field);
                    return Err(UsageError(error.to_string()).into());
                }
                return Ok(DetailEvent { kind, format });
            }
        }
        let (owner, list) = (self.owner(), self.list_command());
        let mut builtin = EventKind::builtin_kinds().into_iter();
        // The event of a kind with a name of its own is not mistyped.
        let suggestion = match builtin.any(|it| it.name == kind.name) {
            true => String::new(),
            false => {
                let names = self.kvm_event_names()?;
                did_you_mean(&similar_names(
                    names.iter().map(String::as_str),
                    &kind.event,
                ))
            }
        };
        let message = format!(
            "`{}` needs the event kvm:{}, which {owner} does not have{suggestion} ({list} shows its events)",
            kind.name, kind.event,
        );
        Err(UsageError(message).into())
    }

    /// Returns the words for the owner of the formats.
    fn owner(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "this kernel",
            Self::Recording(..) => "this recording",
        }
    }

    /// Returns the command that lists the events.
    fn list_command(&self) -> String {
        match self {
            Self::Kernel(_) => "`kvm-collector list events`".to_owned(),
            Self::Recording(_, path) => {
                format!("`kvm-collector list events -i {}`", path.display())
            }
        }
    }

    fn kvm_event_names(&self) -> anyhow::Result<Vec<String>> {
        Ok(match self {
            Self::Kernel(tracefs) => {
                let events = tracefs.kvm_events()?.into_iter();
                let kvm = events.filter(|it| it.system == "kvm");
                kvm.map(|it| it.name).collect()
            }
            Self::Recording(formats, _) => {
                let kvm = formats.iter().filter(|it| it.system == "kvm");
                kvm.map(|it| it.name.clone()).collect()
            }
        })
    }
}
