//! Reads the bytes of a recording, and splits them into chunks of complete records.

use std::{fs::File, io};

use bytes::Bytes;
use rustix::buffer::spare_capacity;

use super::{
    abi::{RECORD_HEADER, record, u16_at, u32_at, u64_at},
    buffer::{Buffer, READ_BYTES},
};

/// The maximum size of tracing data. The formats of all events of a kernel have 6 MiB.
const MAX_TRACING_DATA: usize = 64 << 20;

/// The next part of a recording.
#[derive(Debug)]
pub(super) enum InputChunk {
    /// Complete records, and whether any of them is compressed.
    Records(Bytes, bool),
    /// The data that follows a TRACING_DATA record.
    TracingData(Bytes),
    /// The normal end.
    End,
    /// The recording is damaged from here on, with a description.
    Damaged(String),
}

/// Where to read bytes from.
#[derive(Debug)]
pub(super) enum ByteSource {
    /// A file or a pipe, from its current position.
    Stream(File),
    /// A file, from this offset.
    FileAt(File, u64),
    /// Nowhere: the buffer already has all bytes.
    Empty,
}

impl ByteSource {
    /// Reads as many bytes as fit into the spare capacity of `to`, and appends them.
    fn read(&mut self, to: &mut Vec<u8>) -> io::Result<usize> {
        let read = match self {
            Self::Stream(file) => rustix::io::read(file, spare_capacity(to))?,
            Self::FileAt(file, offset) => {
                let read = rustix::io::pread(file, spare_capacity(to), *offset)?;
                *offset += read as u64;
                read
            }
            Self::Empty => 0,
        };
        Ok(read)
    }
}

/// Splits the data section of a file, or a stream, into records.
#[derive(Debug)]
pub(super) struct Input {
    source: ByteSource,
    /// Number of bytes of the data section that are not read yet. `None` reads up to the end.
    remaining: Option<u64>,
    /// The offset of `buffer` in the file, for messages.
    offset: u64,
    buffer: Buffer,
}

impl Input {
    /// Reads from `source`, which is at `offset` in the file. Reads `remaining` bytes, or up to the end.
    pub(super) fn new(source: ByteSource, offset: u64, remaining: Option<u64>) -> Self {
        Self {
            source,
            remaining,
            offset,
            buffer: Buffer::default(),
        }
    }

    /// Reads records from memory.
    pub(super) fn from_bytes(bytes: Bytes) -> Self {
        Self {
            buffer: bytes.into(),
            ..Self::new(ByteSource::Empty, 0, Some(0))
        }
    }

    /// Whether the source is a file, which does not block like a pipe.
    pub(super) fn is_file(&self) -> bool {
        match &self.source {
            ByteSource::Stream(file) => file.metadata().is_ok_and(|it| it.is_file()),
            ByteSource::FileAt(..) | ByteSource::Empty => true,
        }
    }

    /// Returns the next part. Must not be called after the end or damage.
    pub(super) fn next(&mut self) -> io::Result<InputChunk> {
        loop {
            let (complete_bytes, is_compressed, chunk_end) = complete_records(self.buffer.bytes());
            if complete_bytes > 0 {
                let records = self.take(complete_bytes);
                return Ok(InputChunk::Records(records, is_compressed));
            }
            match chunk_end {
                ChunkEnd::NeedsBytes(bytes) => {
                    if !self.fill(bytes)? {
                        return Ok(self.end());
                    }
                }
                ChunkEnd::TracingData {
                    record_bytes,
                    data_bytes,
                } => {
                    if data_bytes > MAX_TRACING_DATA {
                        return Ok(self.damaged(&format!("{data_bytes} bytes of tracing data")));
                    }
                    while self.buffer.bytes().len() < record_bytes + data_bytes {
                        if !self.fill(record_bytes + data_bytes)? {
                            return Ok(self.end());
                        }
                    }
                    self.take(record_bytes);
                    return Ok(InputChunk::TracingData(self.take(data_bytes)));
                }
                ChunkEnd::Skip {
                    record_bytes,
                    data_bytes,
                } => {
                    self.take(record_bytes);
                    if !self.skip(data_bytes)? {
                        return Ok(self.end());
                    }
                }
                ChunkEnd::InvalidSize(size) => {
                    return Ok(self.damaged(&format!("a record of {size} bytes")));
                }
            }
        }
    }

    fn take(&mut self, bytes: usize) -> Bytes {
        self.offset += bytes as u64;
        self.buffer.split_to(bytes)
    }

    /// Reads more bytes, so that the buffer can grow to `wanted` bytes. Returns false at the end.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        let missing = wanted.saturating_sub(self.buffer.bytes().len());
        let mut additional = READ_BYTES.max(missing);
        if let Some(remaining) = self.remaining {
            additional = additional.min(usize::try_from(remaining).unwrap_or(additional));
        }
        if additional == 0 {
            return Ok(false);
        }
        let buffer = self.buffer.make_writable(additional);
        let start = buffer.len();
        let read = loop {
            match self.source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if let Some(remaining) = &mut self.remaining {
            // The buffer may have had space for bytes after the data section, too.
            let in_section = read.min(usize::try_from(*remaining).unwrap_or(read));
            buffer.truncate(start + in_section);
            *remaining -= in_section as u64;
        }
        Ok(read > 0)
    }

    /// Returns false if the recording ends before.
    fn skip(&mut self, mut bytes: u64) -> io::Result<bool> {
        while bytes > 0 {
            if self.buffer.bytes().is_empty() && !self.fill(1)? {
                return Ok(false);
            }
            let buffered = self.buffer.bytes().len();
            let skipped = buffered.min(usize::try_from(bytes).unwrap_or(usize::MAX));
            self.take(skipped);
            bytes -= skipped as u64;
        }
        Ok(true)
    }

    fn end(&mut self) -> InputChunk {
        match (self.buffer.bytes().len(), self.remaining) {
            (0, None | Some(0)) => InputChunk::End,
            (_, Some(remaining)) if remaining > 0 => InputChunk::Damaged(format!(
                "it ends at byte {}, {remaining} bytes too early",
                self.offset + self.buffer.bytes().len() as u64
            )),
            (rest, _) => self.damaged(&format!("an incomplete record of {rest} bytes")),
        }
    }

    fn damaged(&mut self, what: &str) -> InputChunk {
        self.buffer.clear();
        InputChunk::Damaged(format!("at byte {} there is {what}", self.offset))
    }
}

/// What follows the complete records at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkEnd {
    /// An incomplete record. At least this many bytes of it are needed.
    NeedsBytes(usize),
    /// A TRACING_DATA record, which is followed by its data.
    TracingData {
        record_bytes: usize,
        data_bytes: usize,
    },
    /// Another record that is followed by data, both of which readers skip.
    Skip {
        record_bytes: usize,
        data_bytes: u64,
    },
    /// A record with this invalid size in its header.
    InvalidSize(usize),
}

/// Finds the complete records at the start of a buffer. Returns their size in bytes, whether any of them
/// is compressed, and what follows them.
pub(super) fn complete_records(buffer: &[u8]) -> (usize, bool, ChunkEnd) {
    let mut is_compressed = false;
    let mut position = 0;
    let chunk_end = loop {
        let rest = &buffer[position..];
        let (Some(record_type), Some(size)) = (u32_at(rest, 0), u16_at(rest, 6)) else {
            break ChunkEnd::NeedsBytes(RECORD_HEADER);
        };
        let record_bytes = usize::from(size);
        if record_bytes < RECORD_HEADER {
            break ChunkEnd::InvalidSize(record_bytes);
        }
        if rest.len() < record_bytes {
            break ChunkEnd::NeedsBytes(record_bytes);
        }
        match record_type {
            record::TRACING_DATA => {
                let size = u32_at(&rest[..record_bytes], RECORD_HEADER).unwrap_or(0);
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                break ChunkEnd::TracingData {
                    record_bytes,
                    data_bytes: size.checked_next_multiple_of(8).unwrap_or(usize::MAX),
                };
            }
            record::AUXTRACE => {
                break ChunkEnd::Skip {
                    record_bytes,
                    data_bytes: u64_at(&rest[..record_bytes], RECORD_HEADER).unwrap_or(0),
                };
            }
            record::COMPRESSED | record::COMPRESSED2 => {
                is_compressed = true;
                position += record_bytes;
            }
            _ => position += record_bytes,
        }
    };
    (position, is_compressed, chunk_end)
}

/// Returns the records of a chunk, each with its offset.
pub(crate) fn records(chunk: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let size = usize::from(u16_at(chunk, position + 6)?);
        let record = chunk
            .get(position..position + size)
            .filter(|_| size >= RECORD_HEADER)?;
        let start = position;
        position += size;
        Some((start, record))
    })
}
