//! Running a request: what the commands, and whatever else measures, have in common. Readings, intervals, limits and
//! the end are here; what a report looks like is the caller's business.

mod drain;
pub mod exits;
mod intervals;
mod names;
mod own_cost;
mod playback;
mod progress;
mod queue;
pub mod record;
mod schedule;
mod signals;
pub mod stat;
mod stream;
pub mod top;
pub mod trace;

pub use intervals::{Intervals, Span};
pub use own_cost::OwnCost;
pub use playback::play;
pub use queue::LEAST_QUEUE_BYTES;
pub use schedule::{Due, Ending, REFRESH_PERIOD, Schedule, ThreadNotices, every, until};
pub use signals::of_end;
