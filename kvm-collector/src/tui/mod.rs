//! `top`: the screen.
//!
//! [`App`] is what it shows, keys and readings change it, and [`draw`] turns it into cells. All of that is
//! pure. [`run`] is the loop around it, [`Screen`] the terminal.

mod app;
mod draw;
mod keys;
mod layout;
mod mailbox;
mod run;
mod screen;
mod sort;
mod terminal;

pub use crate::session::top::Control;
pub use app::{App, Overlay, Setup};
pub use draw::draw;
pub use keys::Action;
pub use mailbox::Mailbox;
pub use run::{text_lines, start_input_thread, print, run};
pub use screen::Screen;
pub use sort::Sort;
pub use terminal::stop_waiting;
