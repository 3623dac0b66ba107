//! An output of several files.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{file::OutputFile, previous::Previous};

/// Files that get their names together, when all of them are stored. If they are dropped before that, they are removed, and so are
/// the directories that were created for them.
#[derive(Debug, Default)]
pub struct OutputFiles(Vec<(PathBuf, OutputFile)>);

impl OutputFiles {
    /// Adds a file, to which data was or will be written through a clone of [`OutputFile::file`].
    pub fn add(&mut self, path: &Path, file: OutputFile) {
        self.0.push((path.to_owned(), file));
    }

    /// Returns the number of files.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Stores all files, and then replaces existing ones.
    ///
    /// # Errors
    /// If a file cannot be stored; then none is replaced. If a file cannot be renamed; then the error names the files that are
    /// complete.
    pub fn complete(mut self) -> io::Result<()> {
        for (path, file) in &self.0 {
            file.sync().map_err(|error| name_output(path, &error))?;
        }
        for index in 0..self.0.len() {
            let (path, file) = &mut self.0[index];
            let result = file.publish(Previous::Replace);
            if let Err(error) = result.map_err(|error| name_output(path, &error)) {
                return Err(self.name_complete(index, &error));
            }
        }
        Ok(())
    }

    /// Adds the first files, which have their names already, to an error.
    fn name_complete(&self, count: usize, error: &io::Error) -> io::Error {
        if count == 0 {
            return io::Error::new(error.kind(), error.to_string());
        }
        let complete = self.0[..count].iter();
        let complete: Vec<_> = complete.map(|(it, _)| it.display().to_string()).collect();
        let (all, complete) = (self.0.len(), complete.join(", "));
        let text = format!("{error}; {count} of {all} files are complete: {complete}");
        io::Error::new(error.kind(), text)
    }
}

/// Returns a write error with the name of the output. It has the same kind, because callers check that.
#[must_use]
pub fn name_output(path: &Path, error: &io::Error) -> io::Error {
    let name = path.display();
    io::Error::new(error.kind(), format!("cannot write to {name}: {error}"))
}

impl Drop for OutputFiles {
    fn drop(&mut self) {
        // The last file first: the directory of a file is created with the first one in it.
        while self.0.pop().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn files_that_are_complete_are_named_in_an_error() {
        let folder = std::env::temp_dir().join(format!("output-files-{}", std::process::id()));
        let paths = ["a/b/one", "a/b/two", "a/c/three"].map(|it| folder.join(it));
        let create = || {
            let mut files = OutputFiles::default();
            for path in &paths {
                let mut file = OutputFile::create_with_directories(path).unwrap();
                file.write_all(b"new").unwrap();
                files.add(path, file);
            }
            assert_eq!(files.count(), 3);
            files
        };
        drop(create());
        assert!(!folder.exists());
        let files = create();
        // A directory cannot be replaced by a file.
        fs::create_dir(&paths[1]).unwrap();
        let error = files.complete().unwrap_err().to_string();
        let (one, two) = (paths[0].display(), paths[1].display());
        assert!(
            error.starts_with(&format!("cannot write to {two}: Is a directory")),
            "{error}"
        );
        assert!(
            error.ends_with(&format!("; 1 of 3 files are complete: {one}")),
            "{error}"
        );
        assert_eq!(fs::read(&paths[0]).unwrap(), b"new");
        assert!(!folder.join("a/c").exists());
        fs::remove_dir(&paths[1]).unwrap();
        create().complete().unwrap();
        for path in &paths {
            assert_eq!(fs::read(path).unwrap(), b"new");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
