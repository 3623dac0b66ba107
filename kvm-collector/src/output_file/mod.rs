//! Opens every file that the collector writes.
//!
//! Recordings and reports contain data of guests, and the collector often runs as root. So each file that it creates is readable
//! by its owner only, no symbolic link is followed where other users could have placed it, and a file with the name of an output
//! remains as it is until the new one is ready to replace it. See [`OutputFile`].

mod created;
mod directory;
mod file;
mod previous;
mod resolve;
mod same_file;
mod several;

pub use file::{OutputFile, temporary_file};
pub use previous::Previous;
pub use resolve::{OutputPlace, is_writable_by_others, written_directory};
pub use same_file::{is_same_file, is_same_output};
pub use several::{OutputFiles, name_output};
