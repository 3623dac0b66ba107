//! What happens to the files that have the name of a new one.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use rustix::fs::FileType;

use super::directory::{Directory, file_type};

/// What happens to an existing file with the name of a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    /// It is removed.
    Replace,
    /// It gets the suffix `.old`, unless it is empty, as with perf.
    BackUp,
    /// It gets the suffix `.1`, the file that has this name gets `.2`, and so on. There are at most this many files, including
    /// the new one.
    Rotate(usize),
}

impl Previous {
    /// Renames the existing files. Links are renamed themselves, not their targets.
    pub(super) fn make_room(self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        match self {
            Self::Replace => Ok(()),
            Self::BackUp => {
                let is_kept =
                    |status| file_type(&status) == FileType::RegularFile && status.st_size > 0;
                if directory.status_of(name)?.is_some_and(is_kept) {
                    directory.rename(name, &with_suffix(name, "old"))?;
                }
                Ok(())
            }
            Self::Rotate(files) => {
                for number in (0..files.saturating_sub(1)).rev() {
                    let from = match number {
                        0 => name.to_owned(),
                        number => with_suffix(name, number),
                    };
                    match directory.rename(&from, &with_suffix(name, number + 1)) {
                        Err(error) if error.kind() != io::ErrorKind::NotFound => {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
        }
    }
}

fn with_suffix(name: &OsStr, suffix: impl std::fmt::Display) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".{suffix}"));
    name
}
