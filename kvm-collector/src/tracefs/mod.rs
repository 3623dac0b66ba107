//! Reads tracefs: finds its mount point, lists events, and parses their format files, which say how a
//! record is laid out and how the kernel prints it.

mod ctype;
pub mod events;
pub mod field;
pub mod format;
pub mod kernel_types;
mod mount;
mod number;
mod print_fmt;
mod reasons;
mod record;
mod similar;

pub use events::{EventName, EventsError};
pub use field::{Field, FieldKind};
pub use format::{Format, FormatError, FormatProblem};
pub use mount::{Tracefs, TracefsError, access_advice};
pub use reasons::{ReasonNames, UnknownReason};
pub use similar::{did_you_mean, similar_names};
