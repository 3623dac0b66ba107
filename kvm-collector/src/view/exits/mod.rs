//! `exits`: where VM exits go, by reason, vCPU and VM.

mod advice;
mod baseline;
mod diff;
mod groups;
mod hot;
mod names;
mod report;
mod slow;

pub use crate::knowledge::advice::Advice;
pub use baseline::{Baseline, BaselineError};
pub use diff::{DiffReport, DiffRow, DiffState, RateChange, TimeChange};
pub(in crate::view) use groups::vcpu;
pub use groups::{ExitGroups, Group, GroupKey, Grouped, VcpuTotals};
pub use names::KeyNames;
pub use report::{Bucket, Cause, ExitRow, ExitsOptions, ExitsReport, Percentile, SortKey, VcpuRow};
pub use slow::SlowRow;
