//! Where samples and events come from.

mod comms;
mod departed;
mod exit_source;
mod live;
mod names;
mod of_thread;
mod ordered;
mod recording;
mod replay;
mod tally;
mod window;

use comms::Comms;
pub use exit_source::ExitSource;
pub use live::{Live, LiveOptions};
pub use names::VmNames;
pub use ordered::{Ordered, WINDOW_NS};
pub use recording::{Ended, Names, Played, Recording, Selection};
pub use replay::{Replay, ReplayOptions, Role};
pub use tally::Tally;
