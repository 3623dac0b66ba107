//! Finds the directory and the name of an output, and follows symbolic links only where no other user could have placed them.
//!
//! The kernel has such a rule too (`fs.protected_symlinks`), but only for links at the end of a path, in sticky directories that
//! are writable by everyone, and only if it is enabled.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};

use super::{
    created::CreatedDirectories,
    directory::{Directory, file_type},
};

/// The maximum number of symbolic links in a path, as in the kernel.
const MAX_LINKS: usize = 40;

/// The directory and the name of an output. The directory is open, so later files with this name are in the same one, whatever
/// happens to the path.
#[derive(Debug)]
pub struct OutputPlace {
    pub(super) directory: Arc<Directory>,
    pub(super) name: OsString,
    pub(super) kind: Kind,
    /// The directories that were created on the way.
    pub(super) created: CreatedDirectories,
}

/// How an output can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It does not exist, or is a regular file. A new file takes its name.
    Replaced,
    /// It is a regular file that cannot be replaced: a mount point.
    Overwritten,
    /// It is a device or a pipe.
    Special,
    /// It is a link of procfs to an open file.
    OpenFile,
    /// It is a directory.
    Directory,
}

/// What happens if a directory of the path does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is an error.
    Refuse,
    /// It is created.
    Create,
    /// The path ends at the last directory that exists.
    Stop,
}

/// Finds an output.
///
/// # Errors
/// When a directory is missing or a symbolic link must not be followed.
pub(super) fn resolve(path: &Path, missing: Missing) -> io::Result<OutputPlace> {
    let mut directory = Arc::new(Directory::start(false)?);
    let mut created = CreatedDirectories::default();
    let mut links = 0;
    // The rest of the path, its next component last.
    let mut rest: Vec<Step> = Vec::new();
    let bytes = path.as_os_str().as_bytes();
    let names_directory = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
    if names_directory && missing == Missing::Refuse && !path.is_dir() {
        return Err(Errno::ISDIR.into());
    }
    push_steps(path, &mut rest)?;
    while let Some(step) = rest.pop() {
        let name = match step {
            Step::Root => {
                directory = Directory::start(true)?.into();
                continue;
            }
            Step::Parent => {
                directory = directory.enter(OsStr::new(".."))?.into();
                continue;
            }
            Step::Name(name) => name,
        };
        let is_last = rest.is_empty();
        let Some(status) = directory.status_of(&name)? else {
            if is_last || missing == Missing::Stop {
                return Ok(OutputPlace {
                    directory,
                    name,
                    kind: Kind::Replaced,
                    created,
                });
            }
            if missing == Missing::Refuse {
                return Err(Errno::NOENT.into());
            }
            if directory.create_directory(&name)? {
                created.add(Arc::clone(&directory), name.clone());
            }
            directory = directory.enter(&name)?.into();
            continue;
        };
        if file_type(&status) == FileType::Symlink {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            check_link(&directory, &name)?;
            if !directory.is_procfs()? {
                push_steps(&directory.read_link(&name)?, &mut rest)?;
                continue;
            }
            if !is_last {
                directory = directory.follow(&name)?.into();
                continue;
            }
        } else if !is_last {
            directory = directory.enter(&name)?.into();
            continue;
        }
        let kind = kind_of(&directory, &name, &status)?;
        return Ok(OutputPlace {
            directory,
            name,
            kind,
            created,
        });
    }
    // The path ends with `/`, `.` or `..`, or is empty.
    Ok(OutputPlace {
        directory,
        name: OsString::from("."),
        kind: Kind::Directory,
        created,
    })
}

fn kind_of(directory: &Directory, name: &OsStr, status: &Stat) -> io::Result<Kind> {
    let kind = match file_type(status) {
        FileType::Symlink => return Ok(Kind::OpenFile),
        FileType::Directory => return Ok(Kind::Directory),
        FileType::RegularFile if directory.is_mount_point(name) => Kind::Overwritten,
        FileType::RegularFile => Kind::Replaced,
        _ => Kind::Special,
    };
    if directory.is_of_stranger(status)? {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to another user, in a directory that others can write: use another directory",
        ));
    }
    Ok(kind)
}

/// A component of a path.
#[derive(Debug)]
enum Step {
    Root,
    Parent,
    Name(OsString),
}

/// Puts the components of a path before the rest.
fn push_steps(path: &Path, rest: &mut Vec<Step>) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Err(Errno::NOENT.into());
    }
    let steps = path.components().filter_map(|it| match it {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Parent),
        Component::Normal(name) => Some(Step::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    });
    let steps: Vec<_> = steps.collect();
    rest.extend(steps.into_iter().rev());
    Ok(())
}

/// Refuses a link that another user could have placed.
fn check_link(directory: &Directory, name: &OsStr) -> io::Result<()> {
    if !directory.is_writable_by_others()? {
        return Ok(());
    }
    let path = directory.path().unwrap_or_default().join(name);
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} is a symbolic link in a directory that other users can write: give the path of its target",
            path.display()
        ),
    ))
}

/// Returns the directory, without symbolic links, in which files are created and renamed when this output is written. If the
/// output is a folder, this is the folder, or the last directory of its path that exists. `None` if it is a device or a pipe,
/// which is opened but not replaced, or `-`, which is stdout.
///
/// # Errors
/// As for [`super::OutputFile::create`], except that directories may be missing.
pub fn written_directory(path: &Path) -> io::Result<Option<PathBuf>> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let place = resolve(path, Missing::Stop)?;
    Ok(match place.kind {
        Kind::Replaced => Some(place.directory.path()?),
        Kind::Directory => Some(place.directory.enter(&place.name)?.path()?),
        Kind::Overwritten | Kind::Special | Kind::OpenFile => None,
    })
}

/// Returns whether another user than root and the user of this process can create files and links in a directory.
///
/// # Errors
/// If the directory cannot be opened.
pub fn is_writable_by_others(directory: &Path) -> io::Result<bool> {
    Directory::at(directory)?.is_writable_by_others()
}
