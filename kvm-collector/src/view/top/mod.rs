//! The `top` view: turns readings of all exits into rows for a selected [`Scope`].
//!
//! [`ReadingHistory`] stores counters per vCPU and key, so a change of scope needs no new reading.
//! A histogram takes 2.4 KB, so only the selected scope has them: [`ScopeHistograms`].

mod histograms;
mod history;
mod reading;
mod rows;
mod scope;
mod breakdown;
mod trend;
mod pending;

pub use histograms::ScopeHistograms;
pub use history::ReadingHistory;
pub use reading::{KeyName, ThreadCounters, TopNames, TopReading};
pub use rows::{DurationStats, TopRow, ScopeTotals, Window};
pub use scope::Scope;
pub use breakdown::{ExitCounters, ExitBreakdown};
pub use trend::{TREND_SAMPLES, TrendMetric};
pub use pending::{PendingReading, PendingReadings};
