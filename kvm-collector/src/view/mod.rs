//! What is shown: each view turns samples into rows, whatever the samples come from.

mod exits;
mod stat;
mod trace;

pub use exits::{
    Bucket, Cause, ExitGroups, ExitRow, ExitsOptions, ExitsReport, Group, GroupKey, Grouped,
    KeyNames, Percentile, SlowRow, SortKey, VcpuRow, VcpuTotals,
};
pub use stat::{StatEvent, StatReport, StatVm};
pub use trace::{Clock, FilterError, Filters, SpanOptions, Spans, TraceFormat, TraceLines};
