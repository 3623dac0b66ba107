//! The screen of `top`.
//!
//! [`App`] is the state; keys and readings change it. [`draw()`] renders it into a buffer of cells. Both
//! do no I/O. [`run()`] is the main loop, and [`Screen`] is the terminal.

mod app;
mod draw;
mod headings;
mod keys;
mod layout;
mod level;
mod mailbox;
mod run;
mod screen;
mod setup;
mod sort;
mod terminal;

pub use crate::session::top::Control;
pub use app::App;
pub use draw::draw;
pub use keys::Action;
pub use level::Overlay;
pub use mailbox::Mailbox;
pub use run::{print, run, start_input_thread, text_lines};
pub use screen::Screen;
pub use setup::Setup;
pub use sort::Sort;
pub use terminal::stop_waiting;
