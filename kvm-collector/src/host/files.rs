//! Small reads of `/proc` and `/sys`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::bounds::read_system_file;

/// Reads a file of one line, without its line end; `None` if it cannot be read.
pub(super) fn read_line(path: impl AsRef<Path>) -> Option<String> {
    Some(read_system_file(path).ok()?.trim_end().to_owned())
}

/// Lists the entries of a directory that have a number as their name (processes, threads or open
/// files), sorted by number.
///
/// # Errors
/// If the directory cannot be read.
pub(super) fn numbered_entries(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let entries = fs::read_dir(dir)?.filter_map(Result::ok);
    let mut numbered: Vec<_> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    numbered.sort();
    Ok(numbered)
}
