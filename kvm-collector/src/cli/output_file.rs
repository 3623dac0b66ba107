//! Output files. A command that fails leaves them as they were.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file that is replaced at the first write or flush, and then grows like any other file. Until then it has its old content,
/// so a command that fails before it writes does not change the file.
#[derive(Debug)]
pub(super) struct ReplacedFile {
    file: File,
    path: PathBuf,
    /// The file did not exist before.
    is_new: bool,
    is_replaced: bool,
}

impl ReplacedFile {
    /// Opens a file. Checks that it can be written, but does not change it.
    ///
    /// # Errors
    /// If the file cannot be opened or created.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        Ok(Self {
            file: options.open(path)?,
            path: path.to_owned(),
            is_new,
            is_replaced: false,
        })
    }

    fn replace(&mut self) -> io::Result<()> {
        // Devices and pipes cannot be truncated.
        if !self.is_replaced && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.is_replaced = true;
        Ok(())
    }
}

impl Write for ReplacedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replace()?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.replace()?;
        self.file.flush()
    }
}

impl Drop for ReplacedFile {
    fn drop(&mut self) {
        if self.is_new && !self.is_replaced {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file that is complete or absent: it is written under another name in the same folder, and gets its name at the end.
#[derive(Debug)]
pub(super) struct CompleteFile {
    path: PathBuf,
    /// `None` if the output is a device or a pipe, which is written directly.
    temporary: Option<PathBuf>,
}

impl CompleteFile {
    /// Creates the file. Also returns the file to write to.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub(super) fn create(path: &Path) -> io::Result<(Self, File)> {
        // The target of a link is replaced, not the link.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_special = fs::metadata(path).is_ok_and(|it| !it.is_file());
        let name = path.file_name().map(|name| {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".{}.tmp", std::process::id()));
            hidden
        });
        let temporary = name
            .filter(|_| !is_special)
            .map(|it| path.with_file_name(it));
        let file = File::create(temporary.as_deref().unwrap_or(path))?;
        let path = path.to_owned();
        Ok((Self { path, temporary }, file))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub(super) fn finish(mut self) -> io::Result<()> {
        match self.temporary.take() {
            Some(temporary) => fs::rename(temporary, &self.path),
            None => Ok(()),
        }
    }
}

impl Drop for CompleteFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!(
            "kvm-collector-output-{}-{name}",
            std::process::id()
        ))
    }

    #[test]
    fn a_file_is_replaced_only_when_it_is_written() {
        let path = path("replaced");
        fs::write(&path, "old content").unwrap();
        drop(ReplacedFile::open(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old content");
        let mut file = ReplacedFile::open(&path).unwrap();
        file.write_all(b"new").unwrap();
        file.write_all(b"er").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "newer");
        ReplacedFile::open(&path).unwrap().flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        fs::remove_file(&path).unwrap();
        drop(ReplacedFile::open(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_complete_file_appears_at_the_end() {
        let path = path("complete");
        fs::write(&path, "old").unwrap();
        let (complete, mut file) = CompleteFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        let temporary = complete.temporary.clone().unwrap();
        drop(complete);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert!(!temporary.exists());
        let (complete, mut file) = CompleteFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        complete.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        let link = path.with_extension("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let (complete, mut file) = CompleteFile::create(&link).unwrap();
        file.write_all(b"linked").unwrap();
        complete.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "linked");
        fs::remove_file(&link).unwrap();
        fs::remove_file(&path).unwrap();
        let (device, _) = CompleteFile::create(Path::new("/dev/null")).unwrap();
        device.finish().unwrap();
    }
}
