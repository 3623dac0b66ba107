//! Where samples and events come from.

mod comms;
mod departed;
mod live;
mod names;
mod ordered;
mod recording;
mod tally;
mod window;

use comms::Comms;
pub use live::{Live, LiveOptions};
pub use names::VmNames;
pub use ordered::{Ordered, WINDOW_NS};
pub use recording::{Ended, Names, Played, Recording, Selection};
pub use tally::Tally;
