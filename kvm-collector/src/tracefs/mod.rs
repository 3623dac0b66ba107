//! tracefs: where it is, which events it has, and how each event's record is laid out and printed.

pub mod events;
mod field;
mod find;
mod format;
mod print_fmt;

pub use events::{EventName, EventsError};
pub use field::{Field, FieldKind};
pub use find::{Tracefs, TracefsError};
pub use format::{Format, FormatError, FormatProblem};
