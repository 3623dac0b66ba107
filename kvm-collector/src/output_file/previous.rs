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
    /// Checks that the existing files can get their other names later, when much has been recorded.
    pub(super) fn check(self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        let names: Vec<_> = match self {
            Self::BackUp if is_backed_up(directory, name)? => vec![with_suffix(name, "old")],
            Self::Replace | Self::BackUp => Vec::new(),
            Self::Rotate(files) => (1..files).map(|it| with_suffix(name, it)).collect(),
        };
        for name in names {
            let Some(status) = directory.status_of(&name)? else {
                continue;
            };
            let (kind, problem) = if file_type(&status) == FileType::Directory {
                (io::ErrorKind::IsADirectory, "is a directory")
            } else if directory.is_of_stranger(&status)? {
                let problem = "belongs to another user, in a directory that others can write";
                (io::ErrorKind::PermissionDenied, problem)
            } else {
                continue;
            };
            let text = format!(
                "an older file will get the name {}, which {problem}: use another name or directory",
                name.display()
            );
            return Err(io::Error::new(kind, text));
        }
        Ok(())
    }

    /// Renames the existing files. Links and other special files are not followed or moved, but replaced.
    pub(super) fn make_room(self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        match self {
            Self::Replace => Ok(()),
            Self::BackUp if is_backed_up(directory, name)? => {
                rename(directory, name, &with_suffix(name, "old"))
            }
            Self::BackUp => Ok(()),
            Self::Rotate(files) => {
                for number in (0..files.saturating_sub(1)).rev() {
                    let from = match number {
                        0 => name.to_owned(),
                        number => with_suffix(name, number),
                    };
                    if is_regular(directory, &from)? {
                        rename(directory, &from, &with_suffix(name, number + 1))?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn is_backed_up(directory: &Directory, name: &OsStr) -> io::Result<bool> {
    let status = directory.status_of(name)?;
    Ok(status.is_some_and(|it| file_type(&it) == FileType::RegularFile && it.st_size > 0))
}

fn is_regular(directory: &Directory, name: &OsStr) -> io::Result<bool> {
    let status = directory.status_of(name)?;
    Ok(status.is_some_and(|it| file_type(&it) == FileType::RegularFile))
}

fn rename(directory: &Directory, from: &OsStr, to: &OsStr) -> io::Result<()> {
    directory.rename(from, to).map_err(|error| {
        let text = format!(
            "cannot rename {} to {}: {error}",
            from.display(),
            to.display()
        );
        io::Error::new(error.kind(), text)
    })
}

fn with_suffix(name: &OsStr, suffix: impl std::fmt::Display) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".{suffix}"));
    name
}
