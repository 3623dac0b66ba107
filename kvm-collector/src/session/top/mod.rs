//! Readings of exits for the screen of `top`: of the running kernel, or of a recording that is played.

mod before_range;
mod control;
mod idle;
mod names;
mod output;
mod player;
mod reader;

pub use control::{Control, ControlQueue};
pub use output::TopOutput;
pub use player::{TopPlayer, read_recording_once};
pub use reader::{TopReader, read_once};
