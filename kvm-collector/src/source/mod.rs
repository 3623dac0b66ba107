//! Where samples and events come from.

mod comms;
mod departed;
mod live;
mod names;
mod ordered;

use comms::Comms;
pub use live::{Live, LiveOptions};
pub use names::VmNames;
pub use ordered::{Ordered, WINDOW_NS};
