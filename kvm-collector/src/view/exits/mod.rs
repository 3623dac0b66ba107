//! The `exits` view: number and durations of exits by reason, vCPU and VM, and comparisons with an
//! earlier report.

mod advice;
mod baseline;
mod baseline_error;
mod change;
mod details;
mod diff;
mod groups;
mod hot_rows;
mod names;
mod options;
mod report;
mod row;
mod row_stats;
mod slow_exit;
mod vcpu_row;

pub use crate::knowledge::advice::Advice;
pub use baseline::Baseline;
pub use baseline_error::BaselineError;
pub use change::{RateChange, TimeChange};
pub use details::{Bucket, CauseRow, Percentile};
pub use diff::{DiffReport, DiffRow, DiffState};
pub(in crate::view) use groups::normalize_vcpu_id;
pub use groups::{ExitGroups, GroupBy, GroupKey, GroupStats, VcpuTotals};
pub use names::{KeyNames, with_known_name};
pub use options::{ExitsOptions, SortKey};
pub use report::ExitsReport;
pub use row::ExitRow;
pub use slow_exit::SlowExitRow;
pub use vcpu_row::VcpuRow;
