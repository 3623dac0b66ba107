//! The `exits` view: number and durations of exits by reason, vCPU and VM, and comparisons with an
//! earlier report.

mod advice;
#[cfg(test)]
mod advice_tests;
mod baseline;
mod baseline_error;
mod baseline_json;
mod change;
mod details;
mod diff;
mod evidence;
mod exit_names;
mod exit_record;
mod findings;
mod groups;
mod host_rates;
mod hot_rows;
mod idle;
mod labels;
mod merged;
mod names;
mod options;
mod report;
mod row;
mod row_stats;
mod slow_exit;
mod slowest_exits;
mod vcpu_row;
mod vcpu_time;

pub use crate::knowledge::advice::Advice;
pub use baseline::{Baseline, BaselineOrigin};
pub use baseline_error::BaselineError;
pub use baseline_json::{MAX_BASELINE_FILE_BYTES, MAX_BASELINE_STREAM_BYTES};
pub use change::{RateChange, TimeChange};
pub use details::{Bucket, CauseRow, Percentile};
pub use diff::{DiffReport, DiffRow, DiffState};
pub use evidence::Evidence;
pub use exit_names::{CauseName, ExitNames, ReasonName};
pub use exit_record::{ExitRecord, ExitRecords, Hex};
pub use findings::{Finding, findings};
pub(in crate::view) use groups::normalize_vcpu_id;
pub use groups::{ExitGroups, GroupBy, GroupKey, GroupStats, VcpuTotals};
pub use host_rates::RowRates;
pub(in crate::view) use idle::idle_ns;
pub use labels::RowLabels;
pub use merged::{MergedExits, TooManyRows};
pub use names::{KeyNames, with_known_name};
pub use options::{ExitsOptions, SortKey};
pub use report::ExitsReport;
pub use row::ExitRow;
pub use slow_exit::SlowExitRow;
pub use slowest_exits::SlowestExits;
pub use vcpu_row::VcpuRow;
