//! Temporary files and directories, which are removed on drop.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use libtest_mimic::Failed;

/// A directory for the files of a test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new(name: &str) -> Result<Self, Failed> {
        let path = env::temp_dir().join(format!("kvm-collector-{name}-{}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in the directory.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A path for one file, which the test or the collector creates.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("kvm-collector-test-{}-{name}", process::id());
        Self(env::temp_dir().join(name))
    }

    pub(crate) fn path(&self) -> Result<&str, Failed> {
        Ok(self.0.to_str().ok_or("the path is not UTF-8")?)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
