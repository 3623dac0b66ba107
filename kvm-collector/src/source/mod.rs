//! Where samples and events come from.

mod comms;
mod live;
mod names;
mod ordered;
mod window;

use comms::Comms;
pub use live::{Live, LiveOptions};
pub use names::VmNames;
pub use ordered::{Ordered, WINDOW_NS};
