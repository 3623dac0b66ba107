//! Where samples and events come from.

mod comms;
mod departed;
mod exit_source;
mod live;
mod names;
mod of_thread;
mod ordered;
mod replay;

use comms::Comms;
pub use exit_source::ExitSource;
pub use live::{Live, LiveOptions};
pub use names::VmNames;
pub use ordered::{Ordered, WINDOW_NS};
pub use replay::{RecordedEvent, Replay, ReplayOptions, Role};
