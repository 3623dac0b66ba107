//! Reads the records of a recording in chunks, and decompresses them.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};

use super::{
    abi::{RECORD_HEADER, record, u32_at, u64_at},
    compress::Decompressor,
    error::ReadError,
    input::{ChunkEnd, Input, InputChunk, complete_records, records},
    metadata::Metadata,
    record_writer::end_marker,
};

/// The maximum size of the metadata in a stream, which precedes the events.
pub(super) const MAX_METADATA_BYTES: u64 = 256 << 20;

/// The next part of a recording.
#[derive(Debug)]
pub(crate) enum NextChunk {
    /// Complete records.
    Chunk(Bytes),
    /// The normal end.
    End,
    /// The recording is damaged or incomplete from here on, with a description.
    Damaged(String),
}

/// Reads the records that follow the metadata of a recording.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// The path of the recording, for messages.
    path: PathBuf,
    input: Input,
    /// Chunks that were read with the metadata, and whether they are compressed.
    pending: VecDeque<(Bytes, bool)>,
    /// A chunk with compressed records, and the offset up to which it is processed.
    compressed: Option<(Bytes, usize)>,
    decompressor: Decompressor,
    /// Decompressed bytes that are not returned yet.
    decompressed: BytesMut,
    /// Damage or incompleteness that was found early, and is reported at the end.
    pub(super) defect: Option<String>,
    /// Whether it is a stream of ours in a file, which has a marker at its end.
    expects_end_marker: bool,
    has_end_marker: bool,
    is_finished: bool,
}

impl Chunks {
    pub(super) fn new(path: &Path, input: Input) -> Self {
        Self {
            path: path.to_owned(),
            input,
            pending: VecDeque::new(),
            compressed: None,
            decompressor: Decompressor::default(),
            decompressed: BytesMut::new(),
            defect: None,
            expects_end_marker: false,
            has_end_marker: false,
            is_finished: false,
        }
    }

    /// From now on, the end of the recording without an end marker counts as damage.
    pub(super) fn expect_end_marker(&mut self) {
        self.expects_end_marker = true;
    }

    /// Returns the path of the recording, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the recording is a file, which does not block like a pipe.
    pub(crate) fn is_file(&self) -> bool {
        self.input.is_file()
    }

    /// Reads the metadata of a stream. Stores the chunks read for that, since they may have events.
    pub(super) fn read_metadata(&mut self, metadata: &mut Metadata) -> Result<(), ReadError> {
        let mut bytes_read = 0;
        while bytes_read < MAX_METADATA_BYTES {
            match self.next_input()? {
                InputChunk::Records(chunk, is_compressed) => {
                    bytes_read += chunk.len() as u64;
                    let mut has_events = is_compressed;
                    for (_, record) in records(&chunk) {
                        match u32_at(record, 0) {
                            Some(record::HEADER_ATTR) => {
                                metadata.add_header_attr(record);
                            }
                            Some(record::HEADER_FEATURE) => metadata.add_header_feature(record),
                            Some(record::PADDING) => metadata.add_hidden_feature(record),
                            Some(record::SAMPLE) => has_events = true,
                            _ => {}
                        }
                    }
                    self.pending.push_back((chunk, is_compressed));
                    if has_events {
                        break;
                    }
                }
                InputChunk::TracingData(data) => {
                    metadata.add_tracing_data(&data);
                    break;
                }
                InputChunk::End => {
                    self.is_finished = true;
                    break;
                }
                InputChunk::Damaged(problem) => {
                    self.is_finished = true;
                    self.defect = Some(problem);
                    break;
                }
            }
        }
        Ok(())
    }

    fn next_input(&mut self) -> Result<InputChunk, ReadError> {
        self.input.next().map_err(|source| ReadError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Returns the next records, decompressed. After damage, returns the end.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub(crate) fn next(&mut self) -> Result<NextChunk, ReadError> {
        loop {
            match self.decompress_next() {
                Ok(Some(chunk)) => return Ok(NextChunk::Chunk(chunk)),
                Ok(None) => {}
                Err(problem) => {
                    (self.is_finished, self.compressed) = (true, None);
                    self.pending.clear();
                    self.decompressed.clear();
                    return Ok(NextChunk::Damaged(format!(
                        "a compressed record: {problem}"
                    )));
                }
            }
            let input = match self.pending.pop_front() {
                Some((chunk, is_compressed)) => InputChunk::Records(chunk, is_compressed),
                None if self.is_finished => return Ok(self.end()),
                None => self.next_input()?,
            };
            match input {
                InputChunk::Records(chunk, false) => {
                    self.has_end_marker = ends_with_marker(&chunk);
                    return Ok(NextChunk::Chunk(chunk));
                }
                InputChunk::Records(chunk, true) => {
                    self.has_end_marker = ends_with_marker(&chunk);
                    self.compressed = Some((chunk, 0));
                }
                InputChunk::TracingData(_) => {}
                InputChunk::End => self.is_finished = true,
                InputChunk::Damaged(problem) => {
                    self.is_finished = true;
                    self.defect = Some(problem);
                }
            }
        }
    }

    fn end(&mut self) -> NextChunk {
        if let Some(defect) = self.defect.take() {
            return NextChunk::Damaged(defect);
        }
        if !self.decompressed.is_empty() {
            self.decompressed.clear();
            return NextChunk::Damaged("a compressed record is cut off".to_owned());
        }
        if std::mem::take(&mut self.expects_end_marker) && !self.has_end_marker {
            return NextChunk::Damaged(
                "it was not finished: up to the last 0.2 s may be missing".to_owned(),
            );
        }
        NextChunk::End
    }

    /// Returns the next records of the chunk with compressed records. Decompresses only one record per
    /// call, to bound the memory use.
    fn decompress_next(&mut self) -> Result<Option<Bytes>, String> {
        let Some((chunk, position)) = &mut self.compressed else {
            return Ok(None);
        };
        let start = *position;
        for (offset, record) in records(&chunk[start..]) {
            let record_type = u32_at(record, 0).unwrap_or(0);
            if record_type != record::COMPRESSED && record_type != record::COMPRESSED2 {
                continue;
            }
            if offset > 0 {
                // Return the uncompressed records before this one first.
                *position = start + offset;
                return Ok(Some(chunk.slice(start..start + offset)));
            }
            *position = start + record.len();
            let data = compressed_data(record_type, record).ok_or("it is too short")?;
            self.decompressor.decompress(data, &mut self.decompressed)?;
            let (complete_bytes, is_nested, chunk_end) = complete_records(&self.decompressed);
            match chunk_end {
                ChunkEnd::NeedsBytes(_) if !is_nested => {}
                ChunkEnd::InvalidSize(size) => {
                    return Err(format!("it contains a record of {size} bytes"));
                }
                _ => return Err("it contains a record that must not be compressed".to_owned()),
            }
            return Ok(Some(self.decompressed.split_to(complete_bytes).freeze()));
        }
        let rest = chunk.slice(start..);
        self.compressed = None;
        Ok((!rest.is_empty()).then_some(rest))
    }
}

/// Whether a chunk ends with the end marker of our streams.
fn ends_with_marker(chunk: &[u8]) -> bool {
    let start = chunk.len().saturating_sub(RECORD_HEADER);
    chunk.get(start..).is_some_and(|it| it == end_marker())
}

/// Returns the zstd data of a COMPRESSED or COMPRESSED2 record.
fn compressed_data(record_type: u32, record: &[u8]) -> Option<&[u8]> {
    let body = record.get(RECORD_HEADER..)?;
    if record_type == record::COMPRESSED {
        return Some(body);
    }
    // COMPRESSED2 is padded, so it has the length of its data.
    let length = usize::try_from(u64_at(body, 0)?).ok()?;
    body.get(8..8usize.checked_add(length)?)
}
