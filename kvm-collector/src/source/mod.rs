//! The sources of readings and events: the running kernel and recordings.

mod live;
mod loss_windows;
mod ordered_stream;
mod recording;
mod reorder_buffer;
mod thread_names;
mod vm_event_counts;
mod vm_evidence;

pub use live::{IdleVms, Live, LiveOptions};
pub use ordered_stream::{LiveContext, OrderedStream, REORDER_DELAY_NS};
pub use recording::{
    PlaybackContext, PlaybackOptions, RecordedNames, RecordedProcess, Recording, RecordingSummary,
    RecordingTime, TimeLimits,
};
