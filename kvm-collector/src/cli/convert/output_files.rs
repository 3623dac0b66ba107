//! The files that `convert` writes.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    rc::Rc,
};

use super::super::output_file::CompleteFile;

/// A buffered output.
pub(super) type Writer = BufWriter<Box<dyn Write + Send>>;

/// The output files, which are not visible before they are complete. There are none for stdout.
#[derive(Debug, Clone, Default)]
pub(super) struct Output(Rc<RefCell<Vec<CompleteFile>>>);

impl Output {
    /// Creates a file, which will replace an older one.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        let (complete, file) = CompleteFile::create(path)?;
        self.0.borrow_mut().push(complete);
        Ok(file)
    }

    /// Creates a file in a folder, which is created too.
    pub(super) fn create_in(&self, folder: &Path, path: &Path) -> io::Result<Writer> {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let file: Box<dyn Write + Send> = Box::new(self.create(&path)?);
        Ok(BufWriter::with_capacity(64 << 10, file))
    }

    /// Returns the number of files.
    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Makes the files visible.
    pub(super) fn finish(self) -> io::Result<()> {
        for file in self.0.take() {
            file.finish()?;
        }
        Ok(())
    }
}
