//! What is shown: each view turns samples into rows, whatever the samples come from.

mod exits;
mod overview;
mod stat;
mod timeline;
mod trace;

pub use exits::{
    Advice, Baseline, BaselineError, Bucket, Cause, DiffReport, DiffRow, DiffState, ExitGroups,
    ExitRow, ExitsOptions, ExitsReport, Group, GroupKey, Grouped, KeyNames, Percentile, RateChange,
    SlowRow, SortKey, TimeChange, VcpuRow, VcpuTotals,
};
pub use overview::{Overview, RecordedExits, RecordingFacts};
pub use stat::{StatEvent, StatReport, StatVm};
pub use timeline::{MOST_BINS, TimePart, Timeline, TimelineReport, TimelineTrack};
pub use trace::{Clock, FilterError, Filters, SpanOptions, Spans, TraceFormat, TraceLines};
