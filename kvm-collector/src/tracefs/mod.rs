//! tracefs: where it is, which events it has, and how each event's record is laid out and printed.

pub mod events;
pub mod field;
mod find;
pub mod format;
mod print_fmt;
mod reasons;

pub use events::{EventName, EventsError};
pub use field::{Field, FieldKind};
pub use find::{Tracefs, TracefsError};
pub use format::{Format, FormatError, FormatProblem};
pub use reasons::{ReasonNames, UnknownReason};
