//! What was measured, as plain owned data with its arithmetic. No files, no clocks, no kernel: time
//! is an argument.

mod counts;
mod event;
mod exits;
mod histogram;
mod loss;

pub use counts::{Counts, EventCount, VmCounts};
pub use event::Event;
pub use exits::{ExitSample, ExitTotals, ThreadExits};
pub use histogram::percentile_ns;
pub use loss::Loss;
