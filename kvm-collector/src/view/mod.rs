//! What is shown: each view turns samples into rows, whatever the samples come from.

mod event_counter;
mod exits;
mod overview;
mod stat;
mod timeline;
mod top;
mod trace;

pub use event_counter::EventCounter;
pub use exits::{
    Advice, Baseline, BaselineError, Bucket, Cause, DiffReport, DiffRow, DiffState, ExitGroups,
    ExitRow, ExitsOptions, ExitsReport, Group, GroupKey, Grouped, KeyNames, Percentile, RateChange,
    SlowRow, SortKey, TimeChange, VcpuRow, VcpuTotals,
};
pub use overview::{Overview, RecordedExits, RecordingFacts};
pub use stat::{StatEvent, StatReport, StatVm};
pub use timeline::{MOST_BINS, TimePart, Timeline, TimelineReport, TimelineTrack};
pub use top::{
    ExitCounters, ScopeHistograms, KeyName, ReadingHistory, DurationStats, TREND_SAMPLES, Scope, ExitBreakdown, ThreadCounters, TopNames,
    TopReading, TopRow, ScopeTotals, TrendMetric, PendingReading, PendingReadings, Window,
};
pub use trace::{
    Clock, ExitLineOptions, ExitLines, FilterError, Filters, TraceFormat, TraceLines, write_fields,
};
