//! The output file of a recorder. It is a stream (perf's pipe mode) until it is finished, then a regular
//! perf.data file.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, IoSlice, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    abi::{RECORD_HEADER, record},
    encode::EncodedStats,
    header::Header,
    record_writer::{end_marker, put_record_header},
};

/// The maximum number of stored boundaries, to which the file can be truncated if the disk is full.
const MAX_BOUNDARIES: usize = 64;

/// A file that is being recorded to.
#[derive(Debug)]
pub(super) struct OutputFile {
    file: File,
    /// Whether it is a pipe or a device, which cannot be rewritten at the end.
    is_stream: bool,
    /// Offsets at which a complete record ends, with the statistics of the events before. The newest is
    /// last.
    boundaries: VecDeque<(u64, EncodedStats)>,
}

impl OutputFile {
    /// Creates the file and writes the header.
    pub(super) fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let file = File::create(path)?;
        let is_stream = !file.metadata()?.is_file();
        Self::start(file, is_stream, header)
    }

    /// Starts a stream on standard output.
    pub(super) fn stdout(header: &Header) -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::start(file, true, header)
    }

    fn start(mut file: File, is_stream: bool, header: &Header) -> io::Result<Self> {
        file.write_all(header.bytes())?;
        let end = header.bytes().len() as u64;
        Ok(Self {
            file,
            is_stream,
            boundaries: VecDeque::from([(end, EncodedStats::default())]),
        })
    }

    /// Returns the size of the file, and the statistics of its events.
    pub(super) fn position(&self) -> (u64, EncodedStats) {
        self.boundaries.back().copied().unwrap_or_default()
    }

    /// Appends complete records, usually with one system call.
    pub(super) fn append(&mut self, parts: &[&[u8]], stats: EncodedStats) -> io::Result<()> {
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
        let (mut end, mut all) = self.position();
        end += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        all.merge(stats);
        if self.boundaries.len() == MAX_BOUNDARIES {
            self.boundaries.pop_front();
        }
        self.boundaries.push_back((end, all));
        Ok(())
    }

    /// Turns the stream into a regular file. Records after an incomplete write are removed. If the disk
    /// is full, removes the last records until the file can be finished. Returns its size and the
    /// statistics of its events.
    pub(super) fn finish(
        mut self,
        header: &Header,
        vm_names: &[u8],
    ) -> io::Result<(u64, EncodedStats)> {
        if self.is_stream {
            self.append(&[&end_marker()], EncodedStats::default())?;
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
        self.file.set_len(end)?;
        let (table, file_header) = header.finish(end, vm_names);
        let times = [stats.first_ns.to_ne_bytes(), stats.last_ns.to_ne_bytes()].concat();
        self.file
            .write_all_at(&times, header.sample_time_section().offset)?;
        self.file.write_all_at(&table, end)?;
        // Write the file header last, because it turns the stream into a file.
        self.file.write_all_at(&file_header, 0)?;
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

/// Appends a number to the path: `kvm.data.1`.
fn numbered_path(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Renames the existing files, so that a new file can have this path. The newest one becomes `.1`. There
/// are at most `max_files` files, including the new one.
pub(super) fn rotate(path: &Path, max_files: usize) -> io::Result<()> {
    for number in (0..max_files.saturating_sub(1)).rev() {
        let from = if number == 0 {
            path.to_owned()
        } else {
            numbered_path(path, number)
        };
        match fs::rename(from, numbered_path(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Renames an existing, non-empty file by appending `.old` to its name, like perf.
pub(super) fn back_up_existing(path: &Path) -> io::Result<()> {
    let has_content = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() > 0);
    if !has_content {
        return Ok(());
    }
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    fs::rename(path, old)
}
