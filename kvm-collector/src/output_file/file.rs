//! An output file.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd as _, IntoRawFd as _},
    path::Path,
    sync::Arc,
};

use rustix::io::Errno;

use super::{
    created::CreatedDirectories,
    directory::Directory,
    previous::Previous,
    resolve::{Kind, Missing, OutputPlace, resolve},
};

/// A file that is written beside its name, and gets its name when it is published. If it is dropped before that, it is removed,
/// and a file that has the name already remains as it was.
///
/// So a command that fails changes nothing, and if two processes write the same output, it is always from one of them. A new file
/// always has the mode 0600 and the owner of this process, also when it replaces a file that had others.
///
/// Devices, pipes, stdout and files that are mount points are written directly.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    /// `None` if the file is written directly.
    staged: Option<Staged>,
}

/// A file that does not have its name from the beginning.
#[derive(Debug)]
struct Staged {
    directory: Arc<Directory>,
    name: OsString,
    state: State,
    /// The directories that were created for it.
    created: CreatedDirectories,
}

#[derive(Debug)]
enum State {
    /// The file has no name. This is preferred, because nothing remains of it if the process is killed.
    Unnamed,
    /// The file has this name.
    Temporary(OsString),
    /// The file has its own name.
    Published,
}

impl OutputFile {
    /// Creates a file. Waits for a reader if the path is a named pipe.
    ///
    /// # Errors
    /// If a file cannot be created in the directory, if the path is a directory, or if another user could have placed a symbolic
    /// link, file or named pipe there.
    pub fn create(path: &Path) -> io::Result<Self> {
        OutputPlace::find(path)?.create_file()
    }

    /// Creates a file, and the directories of its path that do not exist, with the mode 0700.
    ///
    /// # Errors
    /// See [`OutputFile::create`].
    pub fn create_with_directories(path: &Path) -> io::Result<Self> {
        let mut place = resolve(path, Missing::Create)?;
        let created = std::mem::take(&mut place.created);
        Self::at(&place, created)
    }

    /// Returns stdout, which is written directly.
    ///
    /// # Errors
    /// If stdout is closed.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self {
            file: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            staged: None,
        })
    }

    fn at(place: &OutputPlace, created: CreatedDirectories) -> io::Result<Self> {
        let &OutputPlace {
            ref directory,
            ref name,
            kind,
            ..
        } = place;
        if kind == Kind::Directory {
            return Err(Errno::ISDIR.into());
        }
        if kind != Kind::Replaced {
            let file = directory.open_existing(name, kind == Kind::OpenFile)?;
            if kind == Kind::Overwritten {
                file.set_len(0)?;
            } else if kind == Kind::Special && file.metadata()?.is_file() {
                // It was replaced after it was found.
                return Err(Errno::AGAIN.into());
            }
            return Ok(Self { file, staged: None });
        }
        let mut staged = Staged {
            directory: Arc::clone(directory),
            name: name.clone(),
            state: State::Unnamed,
            created,
        };
        let file = staged.create().map_err(|error| {
            let text = format!("no file can be created in its directory: {error}");
            io::Error::new(error.kind(), text)
        })?;
        Ok(Self {
            file,
            staged: Some(staged),
        })
    }

    /// Returns whether the file is written directly. Then it cannot be published later, and may be a pipe.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.staged.is_none()
    }

    /// Returns the open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes the data to the disk, so that a full or broken disk is noticed before an older file is replaced. Data of a file
    /// that has its name already is left to the kernel.
    ///
    /// # Errors
    /// If the data cannot be stored.
    pub fn sync(&self) -> io::Result<()> {
        let staged = self.staged.as_ref();
        if staged.is_some_and(|it| !matches!(it.state, State::Published)) {
            self.file.sync_all()?;
        }
        self.check_written()
    }

    /// Reports write errors that the file system reports only when a file is closed, as NFS does.
    ///
    /// # Errors
    /// If data cannot be stored.
    pub fn check_written(&self) -> io::Result<()> {
        let duplicate = self.file.try_clone()?.into_raw_fd();
        // SAFETY: the file descriptor is owned here, and not used afterwards.
        match unsafe { rustix::io::try_close(duplicate) } {
            // Linux closes the file in this case too.
            Err(Errno::INTR) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Gives the file its name, if it does not have it yet. Later writes are visible at once.
    ///
    /// # Errors
    /// If a file cannot be renamed. The new file is removed when it is dropped.
    pub fn publish(&mut self, previous: Previous) -> io::Result<()> {
        let Some(staged) = &mut self.staged else {
            return match previous {
                Previous::Rotate(_) => Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "it is a device, a pipe or a mount point, which cannot be renamed",
                )),
                Previous::Replace | Previous::BackUp => Ok(()),
            };
        };
        staged.publish(&self.file, previous)
    }
}

/// Creates a file in a folder, which is read and written, and which the kernel removes when it is closed.
///
/// # Errors
/// If the folder does not exist, or no file can be created in it.
pub fn temporary_file(folder: &Path) -> io::Result<File> {
    Directory::at(folder)?.create_temporary()
}

impl OutputPlace {
    /// Finds an output.
    ///
    /// # Errors
    /// See [`OutputFile::create`].
    pub fn find(path: &Path) -> io::Result<Self> {
        resolve(path, Missing::Refuse)
    }

    /// Checks that an existing file can get the name that it will get when a new one is published.
    ///
    /// # Errors
    /// If that name belongs to a directory, or to another user who could have placed it there.
    pub fn check_previous(&self, previous: Previous) -> io::Result<()> {
        previous.check(&self.directory, &self.name)
    }

    /// Creates a file in the directory.
    ///
    /// # Errors
    /// See [`OutputFile::create`].
    pub fn create_file(&self) -> io::Result<OutputFile> {
        OutputFile::at(self, CreatedDirectories::default())
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.file.write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Staged {
    fn create(&mut self) -> io::Result<File> {
        if let Some(file) = self.directory.create_unnamed()? {
            return Ok(file);
        }
        let (file, name) = self.directory.create_named()?;
        self.state = State::Temporary(name);
        Ok(file)
    }

    fn publish(&mut self, file: &File, previous: Previous) -> io::Result<()> {
        if let State::Unnamed = self.state {
            // A link does not replace an existing file, so this takes two steps.
            self.state = State::Temporary(self.directory.link(file)?);
        }
        if let State::Temporary(temporary) = &self.state {
            previous.make_room(&self.directory, &self.name)?;
            self.directory.rename(temporary, &self.name)?;
            self.state = State::Published;
            self.created.keep();
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let State::Temporary(temporary) = &self.state {
            let _ = self.directory.remove_file(temporary);
        }
    }
}
