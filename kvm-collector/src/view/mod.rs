//! What is shown: each view turns samples into rows, whatever the samples come from.

mod exits;
mod reasons;
mod stat;
mod trace;

pub use exits::{Bucket, ExitRow, ExitsOptions, ExitsReport, Group, SortKey, UnknownReason};
pub use reasons::ReasonNames;
pub use stat::{StatEvent, StatReport, StatVm};
pub use trace::{FilterError, Filters, TraceFormat, TraceLines};
