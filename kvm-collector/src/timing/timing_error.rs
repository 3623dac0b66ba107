//! Why exits cannot be timed as requested.

use kvm_ebpf_common::MAX_DETAILS;

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
    #[error("this kernel's {event} has no usable field `{field}`; its fields are {available}")]
    NoField {
        /// The event's name.
        event: String,
        /// The name of the missing field.
        field: String,
        /// The names of the fields that exist.
        available: String,
    },
    /// The event of a requested kind has no such field, or the field has a length that the eBPF programs cannot read.
    #[error(
        "kind `{kind}` needs the field `{field}` of {event}, which is not one of its usable fields; its fields are {available}"
    )]
    NoKindField {
        /// The name of the kind.
        kind: String,
        /// The event's name.
        event: String,
        /// The name of the missing field.
        field: String,
        /// The names of the fields that exist.
        available: String,
    },
    /// More kinds of causes are selected than there are eBPF programs for.
    #[error("{0} kinds of causes selected, but at most {MAX_DETAILS} can be measured at once")]
    TooManyDetails(usize),
}
