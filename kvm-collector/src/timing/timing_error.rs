//! Why exits cannot be timed as requested.

use kvm_ebpf_common::MAX_DETAILS;

use crate::tracefs::{Format, did_you_mean, similar_names};

/// Why exits cannot be timed as requested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// A required event does not exist.
    #[error(
        "there is no kvm:{0} event, which is needed to time VM exits: `kvm-collector list events` shows the events that exist"
    )]
    NoEvent(&'static str),
    /// An event has no such field, or the field has a length that the eBPF programs cannot read.
    #[error(
        "{event} has no usable field `{field}`{}; its fields are {}",
        did_you_mean(&similar_names(available.iter().map(String::as_str), field)),
        available.join(", ")
    )]
    NoField {
        /// The event's name.
        event: String,
        /// The name of the missing field.
        field: String,
        /// The names of the fields that exist.
        available: Vec<String>,
    },
    /// The event of a requested kind has no such field, or the field has a length that the eBPF programs cannot read.
    #[error(
        "kind `{kind}` needs the field `{field}` of {event}, which is not one of its usable fields; its fields are {}",
        available.join(", ")
    )]
    NoKindField {
        /// The name of the kind.
        kind: String,
        /// The event's name.
        event: String,
        /// The name of the missing field.
        field: String,
        /// The names of the fields that exist.
        available: Vec<String>,
    },
    /// More kinds of causes are selected than there are eBPF programs for.
    #[error("{0} kinds of causes selected, but at most {MAX_DETAILS} can be measured at once")]
    TooManyDetails(usize),
}

impl TimingError {
    /// Returns the error for an event that has no such field.
    pub(crate) fn no_field(format: &Format, field: &str) -> Self {
        let names = format.fields.iter().map(|it| it.name.clone());
        Self::NoField {
            event: format.event_name().to_string(),
            field: field.to_owned(),
            available: names.collect(),
        }
    }
}
