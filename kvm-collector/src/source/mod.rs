//! Where readings and events come from: the running kernel, or a recording.

mod comms;
mod live;
mod loss_windows;
mod ordered;
mod recording;
mod vm_event_counts;
mod window;

use comms::Comms;
pub use live::{Live, LiveOptions};
pub use ordered::{Ordered, WINDOW_NS};
pub use recording::{Context, Limits, Names, PlayOptions, Recording, RecordingSummary};
