//! The bytes of a recording, cut into runs of whole records.

use std::{fs::File, io};

use bytes::Bytes;
use rustix::buffer::spare_capacity;

use super::{
    abi::{RECORD_HEADER, record, u16_at, u32_at, u64_at},
    buffer::{Buffer, CHUNK},
};

/// Tracing data longer than this is none: all events of a kernel take 6 MiB.
const MOST_TRACING_DATA: usize = 64 << 20;

/// What comes next.
#[derive(Debug)]
pub(super) enum Piece {
    /// Whole records, none of which has anything behind it; is any of them compressed?
    Records(Bytes, bool),
    /// What a record of tracing data has behind it.
    TracingData(Bytes),
    /// It ends here, as it should.
    End,
    /// It ends here, and should not: why.
    Damaged(String),
}

/// Where bytes come from.
#[derive(Debug)]
pub(super) enum From {
    /// A file or a pipe, from where it is.
    Stream(File),
    /// A file, from a place on.
    Place(File, u64),
    /// All of them are there.
    Nowhere,
}

impl From {
    /// Reads what fits behind `to`.
    fn read(&mut self, to: &mut Vec<u8>) -> io::Result<usize> {
        let read = match self {
            Self::Stream(file) => rustix::io::read(file, spare_capacity(to))?,
            Self::Place(file, at) => {
                let read = rustix::io::pread(file, spare_capacity(to), *at)?;
                *at += read as u64;
                read
            }
            Self::Nowhere => 0,
        };
        Ok(read)
    }
}

/// Reads records from a file's data section or from a stream.
#[derive(Debug)]
pub(super) struct Input {
    from: From,
    /// How much of the section is still to come; none for a stream, which goes on to its end.
    left: Option<u64>,
    /// Where `buffer` begins, from the start of the file, for messages.
    at: u64,
    buffer: Buffer,
}

impl Input {
    /// Reads from a place in a file, for so long or to the end.
    pub(super) fn new(from: From, at: u64, left: Option<u64>) -> Self {
        Self {
            from,
            left,
            at,
            buffer: Buffer::default(),
        }
    }

    /// Reads bytes that are there.
    pub(super) fn of_bytes(bytes: Bytes) -> Self {
        Self {
            buffer: bytes.into(),
            ..Self::new(From::Nowhere, 0, Some(0))
        }
    }

    /// Is it a file, whose bytes are there without waiting?
    pub(super) fn is_file(&self) -> bool {
        match &self.from {
            From::Stream(file) => file.metadata().is_ok_and(|it| it.is_file()),
            From::Place(..) | From::Nowhere => true,
        }
    }

    /// The next piece. After an end there is no other.
    pub(super) fn next(&mut self) -> io::Result<Piece> {
        loop {
            let (whole, compressed, stop) = whole_records(self.buffer.bytes());
            if whole > 0 {
                return Ok(Piece::Records(self.take(whole), compressed));
            }
            match stop {
                Stop::More(bytes) => {
                    if !self.fill(bytes)? {
                        return Ok(self.end());
                    }
                }
                Stop::TracingData { record, behind } => {
                    if behind > MOST_TRACING_DATA {
                        return Ok(self.damaged(&format!("{behind} bytes of tracing data")));
                    }
                    while self.buffer.bytes().len() < record + behind {
                        if !self.fill(record + behind)? {
                            return Ok(self.end());
                        }
                    }
                    self.take(record);
                    return Ok(Piece::TracingData(self.take(behind)));
                }
                Stop::Skip { record, behind } => {
                    self.take(record);
                    if !self.skip(behind)? {
                        return Ok(self.end());
                    }
                }
                Stop::Nonsense(size) => {
                    return Ok(self.damaged(&format!("a record of {size} bytes")));
                }
            }
        }
    }

    fn take(&mut self, bytes: usize) -> Bytes {
        self.at += bytes as u64;
        self.buffer.take(bytes)
    }

    /// Reads more, at least one byte; false at the end.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let mut most = CHUNK.max(wanted - self.buffer.bytes().len().min(wanted));
        if let Some(left) = self.left {
            most = most.min(usize::try_from(left).unwrap_or(most));
        }
        if most == 0 {
            return Ok(false);
        }
        let buffer = self.buffer.open(most);
        let start = buffer.len();
        let read = loop {
            match self.from.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Some(left) = &mut self.left {
            // There may have been room for what is behind the section, too.
            let of_section = read.min(usize::try_from(*left).unwrap_or(read));
            buffer.truncate(start + of_section);
            *left -= of_section as u64;
        }
        Ok(read > 0)
    }

    fn skip(&mut self, mut bytes: u64) -> io::Result<bool> {
        while bytes > 0 {
            if self.buffer.bytes().is_empty() && !self.fill(1)? {
                return Ok(false);
            }
            let here = self
                .buffer
                .bytes()
                .len()
                .min(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.take(here);
            bytes -= here as u64;
        }
        Ok(true)
    }

    fn end(&mut self) -> Piece {
        match (self.buffer.bytes().len(), self.left) {
            (0, None | Some(0)) => Piece::End,
            (_, Some(left)) if left > 0 => Piece::Damaged(format!(
                "it ends at byte {}, {left} bytes too early",
                self.at + self.buffer.bytes().len() as u64
            )),
            (rest, _) => self.damaged(&format!("the {rest} bytes of a record that is cut off")),
        }
    }

    fn damaged(&mut self, what: &str) -> Piece {
        let at = self.at;
        self.buffer.clear();
        Piece::Damaged(format!("at byte {at} there is {what}"))
    }
}

/// Why a run of whole records ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// So many bytes of the next record have to be there.
    More(usize),
    TracingData {
        record: usize,
        behind: usize,
    },
    Skip {
        record: usize,
        behind: u64,
    },
    /// A size that no record has.
    Nonsense(usize),
}

/// How many bytes of whole records a buffer begins with, whether any of them is compressed, and what comes then.
pub(super) fn whole_records(buffer: &[u8]) -> (usize, bool, Stop) {
    let mut compressed = false;
    let mut at = 0;
    loop {
        let rest = &buffer[at..];
        let (Some(kind), Some(size)) = (u32_at(rest, 0), u16_at(rest, 6)) else {
            return (at, compressed, Stop::More(RECORD_HEADER));
        };
        let size = usize::from(size);
        if size < RECORD_HEADER {
            return (at, compressed, Stop::Nonsense(size));
        }
        if rest.len() < size {
            return (at, compressed, Stop::More(size));
        }
        match kind {
            record::TRACING_DATA => {
                let behind = u32_at(&rest[..size], RECORD_HEADER).unwrap_or(0);
                let behind = usize::try_from(behind).unwrap_or(usize::MAX);
                let behind = behind.checked_next_multiple_of(8).unwrap_or(usize::MAX);
                return (
                    at,
                    compressed,
                    Stop::TracingData {
                        record: size,
                        behind,
                    },
                );
            }
            record::AUXTRACE => {
                let behind = u64_at(&rest[..size], RECORD_HEADER).unwrap_or(0);
                return (
                    at,
                    compressed,
                    Stop::Skip {
                        record: size,
                        behind,
                    },
                );
            }
            record::COMPRESSED | record::COMPRESSED2 => {
                compressed = true;
                at += size;
            }
            _ => at += size,
        }
    }
}

/// The records of a run, each with its place.
pub(crate) fn records(run: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let size = usize::from(u16_at(run, at + 6)?);
        let record = run.get(at..at + size).filter(|_| size >= RECORD_HEADER)?;
        let here = at;
        at += size;
        Some((here, record))
    })
}
