//! The output file of a recorder. It is a stream (perf's pipe mode) until it is finished, then a regular
//! perf.data file.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Seek as _, Write as _},
    os::unix::fs::FileExt as _,
};

use super::{
    abi::{RECORD_HEADER, record},
    encode::EncodedStats,
    header::Header,
    record_writer::{end_marker, put_record_header},
};
use crate::output_file::{OutputFile, Previous};

/// The maximum number of stored boundaries, to which the file can be truncated if the disk is full.
const MAX_BOUNDARIES: usize = 64;

/// A file that is being recorded to.
#[derive(Debug)]
pub(super) struct PerfDataFile {
    file: OutputFile,
    /// Offsets at which a complete record ends, with the statistics of the events before. The newest is
    /// last.
    boundaries: VecDeque<(u64, EncodedStats)>,
}

impl PerfDataFile {
    /// Writes the header to a new file. A file that is written directly is a pipe or a device, which cannot be rewritten at the
    /// end.
    pub(super) fn start(mut file: OutputFile, header: &Header) -> io::Result<Self> {
        file.write_all(header.bytes())?;
        let end = header.bytes().len() as u64;
        Ok(Self {
            file,
            boundaries: VecDeque::from([(end, EncodedStats::default())]),
        })
    }

    /// Gives the file its name, if it does not have it yet.
    pub(super) fn publish(&mut self, previous: Previous) -> io::Result<()> {
        self.file.publish(previous)
    }

    /// Returns the size of the file, and the statistics of its events.
    pub(super) fn position(&self) -> (u64, EncodedStats) {
        self.boundaries.back().copied().unwrap_or_default()
    }

    /// Appends complete records, usually with one system call. If that fails, none of them is in the file.
    pub(super) fn append(&mut self, parts: &[&[u8]], stats: EncodedStats) -> io::Result<()> {
        if let Err(error) = self.write_all(parts) {
            self.remove_incomplete()?;
            return Err(error);
        }
        let (mut end, mut all) = self.position();
        end += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        all.merge(stats);
        if self.boundaries.len() == MAX_BOUNDARIES {
            self.boundaries.pop_front();
        }
        self.boundaries.push_back((end, all));
        Ok(())
    }

    fn write_all(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes what is behind the last complete record. On a full disk, that makes room for the end of the file.
    fn remove_incomplete(&self) -> io::Result<()> {
        if self.file.is_direct() {
            return Ok(());
        }
        let (end, _) = self.position();
        let mut file = self.file.file();
        file.set_len(end)?;
        file.seek(io::SeekFrom::Start(end))?;
        Ok(())
    }

    /// Turns the stream into a regular file. Records after an incomplete write are removed. If the disk
    /// is full, removes the last records until the file can be finished. Returns its size and the
    /// statistics of its events.
    pub(super) fn finish(
        &mut self,
        header: &Header,
        vm_names: &[u8],
    ) -> io::Result<(u64, EncodedStats)> {
        if self.file.is_direct() {
            self.append(&[&end_marker()], EncodedStats::default())?;
            self.file.check_written()?;
            return Ok(self.position());
        }
        if self.position().0 == header.bytes().len() as u64 {
            // Readers treat a file without records as unfinished.
            let mut round = Vec::new();
            put_record_header(&mut round, record::FINISHED_ROUND, 0, RECORD_HEADER);
            self.append(&[&round], EncodedStats::default())?;
        }
        // The names are the first to be omitted if the disk is full.
        let mut names = vm_names;
        loop {
            let (end, stats) = self.position();
            match self.try_finish(end, stats, header, names) {
                Ok(length) => return Ok((length, stats)),
                Err(error) if !is_disk_full(&error) => return Err(error),
                Err(_) if !names.is_empty() => names = &[],
                Err(error) if self.boundaries.len() == 1 => return Err(error),
                Err(_) => {
                    self.boundaries.pop_back();
                }
            }
        }
    }

    fn try_finish(
        &self,
        end: u64,
        stats: EncodedStats,
        header: &Header,
        vm_names: &[u8],
    ) -> io::Result<u64> {
        let file = self.file.file();
        file.set_len(end)?;
        let (table, file_header) = header.finish(end, vm_names);
        let times = [stats.first_ns.to_ne_bytes(), stats.last_ns.to_ne_bytes()].concat();
        file.write_all_at(&times, header.sample_time_section().offset)?;
        file.write_all_at(&table, end)?;
        // Write the file header last, because it turns the stream into a file.
        file.write_all_at(&file_header, 0)?;
        self.file.check_written()?;
        Ok(end + table.len() as u64)
    }
}

/// Whether the error means that the disk or the quota is full.
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
