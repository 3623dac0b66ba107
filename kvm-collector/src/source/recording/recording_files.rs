//! Reads the chunks of a recording. A recording of `perf record --threads` has several files, which are read
//! together, because each has the events of other CPUs.

use super::scan::{ScannedChunk, Scanner};
use crate::recording::{Chunks, NextChunk, ReadError};

/// The result of reading on in a recording.
#[derive(Debug)]
pub(super) enum ReadStep {
    /// The next chunk.
    Chunk(ScannedChunk),
    /// The end of the recording; with a message if it ends too early.
    End(Option<String>),
}

/// The files of a recording that have not ended, each with the scanner of its chunks.
#[derive(Debug)]
pub(super) struct RecordingFiles<'a> {
    files: Vec<(Chunks, Scanner<'a>)>,
    has_several: bool,
    defect: Option<String>,
}

impl<'a> RecordingFiles<'a> {
    /// Reads `chunks`, whose records `scanner` selects.
    pub(super) fn new(chunks: Vec<Chunks>, scanner: &Scanner<'a>) -> Self {
        Self {
            has_several: chunks.len() > 1,
            files: chunks.into_iter().map(|it| (it, scanner.clone())).collect(),
            defect: None,
        }
    }

    /// Reads on in the file that has been read up to the earliest time. Must not be called after the end or an
    /// error.
    ///
    /// # Errors
    /// [`ReadError`] if a file cannot be read.
    pub(super) fn next(&mut self) -> Result<ReadStep, ReadError> {
        loop {
            let files = self.files.iter().enumerate();
            let earliest = files.min_by_key(|(_, (_, scanner))| scanner.newest_ns());
            let Some(index) = earliest.map(|(index, _)| index) else {
                return Ok(ReadStep::End(self.defect.take()));
            };
            let (chunks, scanner) = &mut self.files[index];
            match chunks.next()? {
                NextChunk::Chunk(chunk) => {
                    let mut scanned = scanner.scan(chunk);
                    if self.has_several {
                        // The end of a round in one file says nothing about the others.
                        scanned.until_ns = None;
                    }
                    return Ok(ReadStep::Chunk(scanned));
                }
                NextChunk::End => drop(self.files.remove(index)),
                NextChunk::Damaged(defect) if self.has_several => {
                    self.defect = Some(format!("{}: {defect}", chunks.path().display()));
                    // The other files have been read a little further. No exit is timed across that.
                    let gap = scanner.scan_gap();
                    self.files.clear();
                    return Ok(ReadStep::Chunk(gap));
                }
                NextChunk::Damaged(defect) => return Ok(ReadStep::End(Some(defect))),
            }
        }
    }
}
