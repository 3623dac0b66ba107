//! Runs measurements: reads the kernel or a recording, and handles intervals, stop conditions and signals.
//!
//! There is one submodule per command. Its functions report through a callback or a trait, so the
//! caller decides what a report looks like.

mod drain;
pub mod exits;
mod intervals;
mod names;
mod overhead;
mod progress;
mod queue;
mod read_recording;
pub mod record;
mod schedule;
mod signals;
pub mod stat;
mod stderr;
mod stream;
pub mod top;
pub mod trace;

pub use intervals::{HeldReports, IntervalTracker, ReportPeriod};
pub use overhead::OverheadMeter;
pub use progress::{ProgressLine, print_message};
pub use queue::MIN_QUEUE_BYTES;
pub use read_recording::read_recording;
pub use schedule::{
    REFRESH_PERIOD, Schedule, StopConditions, ThreadNotifications, WakeReason, interval_timer,
    wait_until,
};
pub use signals::termination_signals;
pub use stderr::write_stderr;
