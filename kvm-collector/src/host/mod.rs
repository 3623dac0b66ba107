//! The machine: what it runs, what it has, what it allows. Reads, and changes nothing.
//!
//! Everything here is found under a root directory that is `/` outside of tests. What may not be read is left out of
//! the answer and said to be so; only a machine without the place to look at all is an error.

pub mod clock;
#[cfg(test)]
pub(crate) mod fake;
pub mod kernel;
pub mod kvm;
pub mod machine;
pub mod namespaces;
pub mod privileges;
pub mod process;
mod process_id;
pub mod tracefs;
pub mod usage;
pub mod vm;
mod vm_name;
mod vm_names;
pub mod watch;

pub use process_id::{next_process_id, pid_of, process_id};
pub use vm_names::VmNames;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a one-line file says, without its line end; `None` when it cannot be read.
fn line(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

/// The entries of a directory whose names are numbers, in order: processes, threads or open files.
fn numbered(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir(dir)?.filter_map(Result::ok);
    let mut numbered: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    numbered.sort();
    Ok(numbered)
}
