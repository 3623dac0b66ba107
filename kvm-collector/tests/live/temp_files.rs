//! Temporary files and directories, which are removed on drop.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use libtest_mimic::Failed;

/// Returns a path that no other test uses.
fn unique_path(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    env::temp_dir().join(format!("kvm-collector-{name}-{}-{number}", process::id()))
}

/// A directory for the files of a test.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Creates the directory. Its name contains `name`.
    pub(crate) fn new(name: &str) -> Result<Self, Failed> {
        let path = unique_path(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a file in the directory.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The path of one file, which the test or the collector creates.
#[derive(Debug)]
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    /// Chooses a path. Its file name contains `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self(unique_path(name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path as an argument of a command.
    pub(crate) fn arg(&self) -> Result<&str, Failed> {
        Ok(self.0.to_str().ok_or("the path is not UTF-8")?)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Fails if the file was never created, for example because perf did not start.
        let _ = fs::remove_file(&self.0);
    }
}
