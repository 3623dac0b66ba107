//! The files that `convert` writes.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    rc::Rc,
};

use crate::output_file::{OutputFile, OutputFiles};

/// A buffered output.
pub(super) type Writer = BufWriter<Box<dyn Write + Send>>;

/// The output files, which replace existing files together, when they are complete. There are none for stdout.
#[derive(Debug, Clone, Default)]
pub(super) struct Output(Rc<RefCell<OutputFiles>>);

impl Output {
    /// Creates a file. Returns it for writing.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        self.add(path, OutputFile::create(path)?)
    }

    /// Creates a file in a folder, which is created too.
    pub(super) fn create_in(&self, folder: &Path, path: &Path) -> io::Result<Writer> {
        let path = folder.join(path);
        let file = self.add(&path, OutputFile::create_with_directories(&path)?)?;
        Ok(BufWriter::with_capacity(64 << 10, Box::new(file)))
    }

    fn add(&self, path: &Path, output: OutputFile) -> io::Result<File> {
        let file = output.file().try_clone()?;
        self.0.borrow_mut().add(path, output);
        Ok(file)
    }

    /// Returns the number of files.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().count()
    }

    /// Stores the files, and then replaces existing ones.
    pub(super) fn complete(self) -> io::Result<()> {
        self.0.take().complete()
    }
}
