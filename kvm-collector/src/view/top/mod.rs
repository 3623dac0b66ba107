//! `top`: the same numbers as `exits`, moving, from any side, and with their past.
//!
//! The finest numbers there are (of each vCPU and key) are kept without histograms, so that whatever is
//! looked at next is there at once: [`Ledger`]. Histograms are 2.4 KB each and are only put together for
//! what is looked at: [`Scope`].

mod histograms;
mod ledger;
mod reading;
mod rows;
mod scope;
mod spent;
mod trend;
mod unread;

pub use histograms::ScopeHistograms;
pub use ledger::ReadingHistory;
pub use reading::{KeyName, ThreadCounters, TopNames, TopReading};
pub use rows::{DurationStats, TopRow, ScopeTotals, Window};
pub use scope::Scope;
pub use spent::{ExitCounters, ExitBreakdown};
pub use trend::{TREND_SAMPLES, TrendMetric};
pub use unread::{PendingReading, PendingReadings};
