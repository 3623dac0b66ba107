//! Views: each turns events or counters into the rows of a report. The source may be the running
//! kernel or a recording.

mod event_counter;
mod exits;
mod json_line;
mod loss_report;
mod origin;
mod overview;
mod recorded_times;
mod selected_by;
mod stat;
mod timeline;
mod top;
mod trace;
mod utc_time;
mod vm_cache;

pub use event_counter::EventCounter;
pub use exits::{
    Advice, Baseline, BaselineError, BaselineOrigin, Bucket, CauseName, CauseRow, DiffReport,
    DiffRow, DiffState, Evidence, ExitGroups, ExitNames, ExitRecord, ExitRecords, ExitRow,
    ExitsOptions, ExitsReport, Finding, GroupBy, GroupKey, GroupStats, Hex, KeyNames,
    MAX_BASELINE_FILE_BYTES, MAX_BASELINE_STREAM_BYTES, MergedExits, Percentile, RateChange,
    ReasonName, RowLabels, RowRates, SlowExitRow, SlowestExits, SortKey, TimeChange, TooManyRows,
    VcpuRow, VcpuTotals, findings, with_known_name,
};
pub use json_line::JsonLine;
pub use loss_report::LossReport;
pub use origin::{OutputHeader, ReportInput, ReportOrigin};
pub use overview::{Overview, RecordedExits, RecordingFacts};
pub use recorded_times::{RecordedHost, RecordedTime, RecordedTimes};
pub use selected_by::SelectedBy;
pub use stat::{MergedCounts, StatEvent, StatReport, StatVm, TooManyVms};
pub use timeline::{MAX_BINS, TimePart, Timeline, TimelineReport, TimelineTrack};
pub use top::{
    DurationStats, ExitBreakdown, ExitCounters, KeyName, PendingReading, PendingReadings,
    ReadingHistory, RowActivity, Scope, ScopeHistograms, ScopeTotals, TREND_SAMPLES,
    ThreadCounters, TopNames, TopReading, TopRow, TrendMetric, Window,
};
pub use trace::{
    ExitLineOptions, ExitLines, FilterError, Filters, ItemNames, ShorterExits, TraceClock,
    TraceFormat, TraceLines, write_fields_json,
};
pub use utc_time::UtcTime;
pub use vm_cache::VmCache;
