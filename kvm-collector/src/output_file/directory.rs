//! A directory in which files are created and renamed.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
    process::geteuid,
};

/// The mode of files: only the owner may read them, as with perf.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The mode of directories.
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// Number of attempts to find a name that does not exist. The names are random, so one is nearly always enough.
const ATTEMPTS: usize = 16;

/// An open directory. It stays the same one, whatever happens to the path by which it was found.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// Opens the working directory, or the root directory.
    pub(super) fn start(is_root: bool) -> io::Result<Self> {
        Self::at(Path::new(if is_root { "/" } else { "." }))
    }

    /// Opens the directory at a path, also through symbolic links.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens a directory in this one, but not through a symbolic link.
    pub(super) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        self.open_directory(name, OFlags::NOFOLLOW)
    }

    /// Opens a directory in this one, also through a symbolic link.
    pub(super) fn follow(&self, name: &OsStr) -> io::Result<Self> {
        self.open_directory(name, OFlags::empty())
    }

    fn open_directory(&self, name: &OsStr, more: OFlags) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | more;
        Ok(Self(rustix::fs::openat(
            &self.0,
            name,
            flags,
            Mode::empty(),
        )?))
    }

    /// Creates a directory in this one. Returns whether it did: another process may have created it before.
    pub(super) fn create_directory(&self, name: &OsStr) -> io::Result<bool> {
        match rustix::fs::mkdirat(&self.0, name, DIRECTORY_MODE) {
            Err(Errno::EXIST) => Ok(false),
            result => {
                result?;
                Ok(true)
            }
        }
    }

    /// Returns the attributes of a file or link in this directory; `None` if there is none with this name.
    pub(super) fn status_of(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            result => Ok(Some(result?)),
        }
    }

    /// Returns the attributes of this directory.
    pub(super) fn status(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.0)?)
    }

    /// Returns the text of a symbolic link.
    pub(super) fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let text = rustix::fs::readlinkat(&self.0, name, Vec::new())?;
        Ok(OsString::from_vec(text.into_bytes()).into())
    }

    /// Whether this directory belongs to procfs, whose links lead to open files instead of to a path.
    pub(super) fn is_procfs(&self) -> io::Result<bool> {
        Ok(rustix::fs::fstatfs(&self.0)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
    }

    /// Whether another user than root and the user of this process can create files and links in this directory. With sudo, the
    /// user who called it counts as the user of this process.
    ///
    /// The bits of the group include what an access control list permits. Membership in root's group is not considered.
    pub(super) fn is_writable_by_others(&self) -> io::Result<bool> {
        let status = self.status()?;
        let is_own = status.st_uid == 0
            || status.st_uid == geteuid().as_raw()
            || sudo_user() == Some(status.st_uid);
        Ok(!is_own || allows_others(&status))
    }

    /// Whether another user could have created a file in this directory, so that it must not be written. This is the rule of the
    /// kernel's `fs.protected_regular` and `fs.protected_fifos`, which are not enabled everywhere: in a directory that others
    /// can write, a process writes only files of its own user and of the owner of the directory.
    pub(super) fn is_of_stranger(&self, file: &Stat) -> io::Result<bool> {
        let status = self.status()?;
        let is_owner_known = [geteuid().as_raw(), status.st_uid].contains(&file.st_uid);
        Ok(allows_others(&status) && !is_owner_known)
    }

    /// Creates a file without a name, which the kernel removes if the process ends before it is linked. `None` if the file system
    /// or the missing `/proc` does not permit it.
    pub(super) fn create_unnamed(&self) -> io::Result<Option<File>> {
        let file = self.open_unnamed(OFlags::WRONLY)?;
        Ok(file.filter(|it| rustix::fs::stat(link_of(it)).is_ok()))
    }

    /// Creates a file with a new name, which starts with a dot. Returns it and its name.
    pub(super) fn create_named(&self) -> io::Result<(File, OsString)> {
        self.open_named(OFlags::WRONLY)
    }

    /// Creates a file that is read and written, and that the kernel removes when it is closed.
    pub(super) fn create_temporary(&self) -> io::Result<File> {
        if let Some(file) = self.open_unnamed(OFlags::RDWR)? {
            return Ok(file);
        }
        let (file, name) = self.open_named(OFlags::RDWR)?;
        self.remove_file(&name)?;
        Ok(file)
    }

    /// Creates a file without a name; `None` if the file system does not permit it.
    fn open_unnamed(&self, access: OFlags) -> io::Result<Option<File>> {
        let flags = OFlags::TMPFILE | access | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.0, ".", flags, FILE_MODE) {
            // The last two are the errors of kernels and file systems that do not know the flag.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            result => Ok(Some(File::from(result?))),
        }
    }

    fn open_named(&self, access: OFlags) -> io::Result<(File, OsString)> {
        let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        with_new_name(|name| {
            let file = rustix::fs::openat(&self.0, name, flags, FILE_MODE)?;
            Ok(File::from(file))
        })
    }

    /// Gives a file without a name a new one, which starts with a dot.
    pub(super) fn link(&self, file: &File) -> io::Result<OsString> {
        use rustix::fs::{CWD, linkat};
        let link = link_of(file);
        let ((), name) =
            with_new_name(|name| linkat(CWD, &link, &self.0, name, AtFlags::SYMLINK_FOLLOW))?;
        Ok(name)
    }

    /// Opens a device, a named pipe, or another file that exists. `is_link` permits a link of procfs.
    pub(super) fn open_existing(&self, name: &OsStr, is_link: bool) -> io::Result<File> {
        let mut flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !is_link);
        Ok(File::from(rustix::fs::openat(
            &self.0,
            name,
            flags,
            Mode::empty(),
        )?))
    }

    /// Gives a file another name in this directory. If a file or link has that name, it is replaced.
    pub(super) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    pub(super) fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Removes an empty directory in this one.
    pub(super) fn remove_directory(&self, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    /// Returns the path of this directory, without symbolic links.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Whether a file is a mount point, as container engines make it to share a single file. It cannot be replaced.
    pub(super) fn is_mount_point(&self, name: &OsStr) -> bool {
        use rustix::fs::{StatxAttributes, StatxFlags, statx};
        let status = statx(
            &self.0,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::empty(),
        );
        // Kernels before 5.8 do not report it. Then the file cannot be renamed, which is an error.
        status.is_ok_and(|it| it.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
}

/// Whether the mode of a directory allows other users to create files.
fn allows_others(directory: &Stat) -> bool {
    let mode = Mode::from_raw_mode(directory.st_mode);
    let is_root_group = directory.st_gid == 0;
    mode.contains(Mode::WOTH) || mode.contains(Mode::WGRP) && !is_root_group
}

/// Returns the user who called sudo, if this process is root's.
fn sudo_user() -> Option<u32> {
    if !geteuid().is_root() {
        return None;
    }
    std::env::var("SUDO_UID").ok()?.parse().ok()
}

/// Creates something with a name that does not exist yet. Returns it and its name.
fn with_new_name<T>(create: impl Fn(&OsStr) -> Result<T, Errno>) -> io::Result<(T, OsString)> {
    for _ in 0..ATTEMPTS {
        // The number is random. That only makes the name unlikely to exist.
        let number = RandomState::new().hash_one(std::process::id());
        let name = OsString::from(format!(".kvm-collector-{number:016x}.tmp"));
        match create(&name) {
            Err(Errno::EXIST) => {}
            result => return Ok((result?, name)),
        }
    }
    Err(Errno::EXIST.into())
}

/// Returns the path of an open file that has no name.
fn link_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Returns the type of a file.
pub(super) fn file_type(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// All file systems of the tests may support files without names, so this is the only test of the others.
    #[test]
    fn temporary_files_have_new_names() {
        let folder = std::env::temp_dir().join(format!("output-directory-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut directory = Directory::start(true).unwrap();
        for name in folder.iter().skip(1) {
            directory = directory.enter(name).unwrap();
        }
        assert_eq!(directory.path().unwrap(), folder);
        let (_, one) = directory.create_named().unwrap();
        let (_, other) = directory.create_named().unwrap();
        assert_ne!(one, other);
        let status = directory.status_of(&one).unwrap().unwrap();
        assert_eq!(status.st_mode & 0o7777, 0o600);
        directory.remove_file(&one).unwrap();
        directory.rename(&other, OsStr::new("name")).unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(names.len(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
