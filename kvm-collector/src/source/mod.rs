//! Where samples and events come from.

mod comms;
mod live;
mod names;

pub use comms::Comms;
pub use live::{Live, LiveOptions};
pub use names::VmNames;
