//! A recording's file: a stream while it is written, a file once it is finished.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, IoSlice, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    abi::{RECORD_HEADER, RECORD_HEADER_SIZE, record},
    encode::Encoded,
    head::{Head, put_header},
};

/// Ends of writes that are remembered, to go back to when the disk is full.
const BOUNDARIES: usize = 64;

/// A file that is being recorded to.
#[derive(Debug)]
pub(super) struct OutFile {
    file: File,
    /// A pipe or a device takes all, once: nothing in it can be changed at the end.
    is_stream: bool,
    /// Where whole records end, newest last, and what is before.
    boundaries: VecDeque<(u64, Encoded)>,
}

impl OutFile {
    /// Creates it, with its head in it.
    pub(super) fn create(path: &Path, head: &Head) -> io::Result<Self> {
        let file = File::create(path)?;
        let is_stream = !file.metadata()?.is_file();
        Self::begin(file, is_stream, head)
    }

    /// A stream to standard output.
    pub(super) fn stdout(head: &Head) -> io::Result<Self> {
        use std::os::fd::AsFd as _;
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::begin(file, true, head)
    }

    fn begin(mut file: File, is_stream: bool, head: &Head) -> io::Result<Self> {
        file.write_all(head.bytes())?;
        let end = head.bytes().len() as u64;
        Ok(Self {
            file,
            is_stream,
            boundaries: VecDeque::from([(end, Encoded::default())]),
        })
    }

    /// How long it is, and what is in it.
    pub(super) fn end(&self) -> (u64, Encoded) {
        self.boundaries.back().copied().unwrap_or_default()
    }

    /// Appends whole records, with one call if the system takes them all.
    pub(super) fn append(&mut self, parts: &[&[u8]], stats: Encoded) -> io::Result<()> {
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
        let (mut end, mut all) = self.end();
        end += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        all.join(stats);
        if self.boundaries.len() == BOUNDARIES {
            self.boundaries.pop_front();
        }
        self.boundaries.push_back((end, all));
        Ok(())
    }

    /// Makes it a file, of what was appended whole. Where there is no room even for that, the last that was appended goes
    /// until there is.
    pub(super) fn finish(mut self, head: &Head, vm_names: &[u8]) -> io::Result<(u64, Encoded)> {
        if self.is_stream {
            self.append(&[&stream_end()], Encoded::default())?;
            return Ok(self.end());
        }
        if self.end().0 == head.bytes().len() as u64 {
            // Readers take what has no record for a file that was not finished.
            let mut round = Vec::new();
            put_header(&mut round, record::FINISHED_ROUND, 0, RECORD_HEADER);
            self.append(&[&round], Encoded::default())?;
        }
        let mut names = vm_names;
        loop {
            let (end, stats) = self.end();
            match self.try_finish(end, stats, head, names) {
                Ok(length) => return Ok((length, stats)),
                Err(error) if !is_full(&error) => return Err(error),
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
        stats: Encoded,
        head: &Head,
        vm_names: &[u8],
    ) -> io::Result<u64> {
        self.file.set_len(end)?;
        let (table, header) = head.finish(end, vm_names);
        let times = [stats.first_ns.to_ne_bytes(), stats.last_ns.to_ne_bytes()].concat();
        self.file.write_all_at(&times, head.sample_time().offset)?;
        self.file.write_all_at(&table, end)?;
        // The last: from here on it is a file.
        self.file.write_all_at(&header, 0)?;
        Ok(end + table.len() as u64)
    }
}

/// What ends a stream that was ended on purpose: a record that readers skip.
pub(super) fn stream_end() -> [u8; RECORD_HEADER] {
    let mut record = [0; RECORD_HEADER];
    record[..4].copy_from_slice(&record::PADDING.to_ne_bytes());
    record[6..].copy_from_slice(&RECORD_HEADER_SIZE.to_ne_bytes());
    record
}

/// Is there no room, on the disk or in the quota?
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// What `-o` names, with a number behind it.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Makes room for a new file of this name, so that there are `keep` with it: the newest has no number, the next `.1`.
pub(super) fn rotate(path: &Path, keep: usize) -> io::Result<()> {
    for number in (0..keep.saturating_sub(1)).rev() {
        let from = if number == 0 {
            path.to_owned()
        } else {
            numbered(path, number)
        };
        match fs::rename(from, numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A recording that is there already is kept, as perf does, under the name with `.old` behind it.
pub(super) fn keep_old(path: &Path) -> io::Result<()> {
    let is_one = fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() > 0);
    if !is_one {
        return Ok(());
    }
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    fs::rename(path, old)
}
