//! The `top` view: turns readings of all exits into rows for a selected [`Scope`].
//!
//! [`ReadingHistory`] stores counters per vCPU and key, so a change of scope needs no new reading.
//! A histogram takes 2.4 KB, so only the selected scope has them: [`ScopeHistograms`].

mod breakdown;
mod histograms;
mod history;
mod pending;
mod reading;
mod rows;
mod scope;
mod trend;

pub use breakdown::{ExitBreakdown, ExitCounters};
pub use histograms::ScopeHistograms;
pub use history::ReadingHistory;
pub use pending::{PendingReading, PendingReadings};
pub use reading::{KeyName, ThreadCounters, TopNames, TopReading};
pub use rows::{DurationStats, RowActivity, ScopeTotals, TopRow, Window};
pub use scope::Scope;
pub use trend::{TREND_SAMPLES, TrendMetric};
