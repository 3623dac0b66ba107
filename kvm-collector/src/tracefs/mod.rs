//! tracefs: where it is, which events it has, and how each event's record is laid out and printed.

pub mod events;
mod find;
mod format;

pub use events::{EventName, EventsError};
pub use find::{Tracefs, TracefsError};
pub use format::{Field, FieldKind, Format, FormatError};
