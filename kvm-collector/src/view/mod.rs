//! What is shown: each view turns samples into rows, whatever the samples come from.

mod exits;
mod stat;
mod trace;

pub use exits::{
    Advice, Baseline, BaselineError, Bucket, Cause, DiffReport, DiffRow, DiffState, ExitGroups,
    ExitRow, ExitsOptions, ExitsReport, Group, GroupKey, Grouped, KeyNames, Percentile, RateChange,
    SlowRow, SortKey, TimeChange, VcpuRow, VcpuTotals,
};
pub use stat::{StatEvent, StatReport, StatVm};
pub use trace::{Clock, FilterError, Filters, SpanOptions, Spans, TraceFormat, TraceLines};
