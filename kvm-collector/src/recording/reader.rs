//! Opens a recording and reads its metadata.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use super::{
    abi::{FILE_HEADER_BYTES, MAGIC, PIPE_HEADER_BYTES, Section, u64_at},
    chunks::{Chunks, MAX_METADATA_BYTES},
    directory,
    error::ReadError,
    file_type::{FileType, START_BYTES},
    input::{ByteSource, Input},
    metadata::Metadata,
    sections::{read_attrs, read_features, read_section, read_stream_metadata},
    spool::{is_stream, spool},
};

/// An open recording and its metadata.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    metadata: Metadata,
    /// The records of each file of the recording.
    files: Vec<Chunks>,
}

impl Reader {
    /// Opens a file, or a directory that `perf record --threads` wrote. The path `-` means standard input.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let io_error = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let file = if path == Path::new("-") {
            File::from(io::stdin().as_fd().try_clone_to_owned().map_err(io_error)?)
        } else {
            File::open(directory::header_path(path)?).map_err(io_error)?
        };
        Self::new(file, path)
    }

    /// Reads the metadata of an open file. `path` is only for messages.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn new(mut file: File, path: &Path) -> Result<Self, ReadError> {
        let io_error = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let mut start = Vec::with_capacity(FILE_HEADER_BYTES);
        let is_file = file.metadata().is_ok_and(|it| it.is_file());
        let mut read = |bytes: usize, start: &mut Vec<u8>| {
            (&mut file)
                .take(bytes as u64)
                .read_to_end(start)
                .map_err(io_error)
        };
        read(PIPE_HEADER_BYTES, &mut start)?;
        let (Some(magic), Some(size)) = (u64_at(&start, 0), u64_at(&start, 8)) else {
            return Err(not_a_recording(path, &start));
        };
        if magic == MAGIC.swap_bytes() {
            return Err(ReadError::Endian {
                path: path.to_owned(),
            });
        }
        if magic != MAGIC {
            // A pipe may have no more bytes yet.
            if is_file {
                read(START_BYTES - PIPE_HEADER_BYTES, &mut start)?;
            }
            return Err(not_a_recording(path, &start));
        }
        if size == PIPE_HEADER_BYTES as u64 {
            return Self::open_stream(file, path);
        }
        if size != FILE_HEADER_BYTES as u64 {
            return Err(ReadError::Header {
                path: path.to_owned(),
                problem: format!("its header has {size} bytes instead of {FILE_HEADER_BYTES}"),
            });
        }
        read(FILE_HEADER_BYTES - PIPE_HEADER_BYTES, &mut start)?;
        if is_stream(&file) {
            file = spool(file, &start).map_err(io_error)?;
        }
        Self::open_file(file, path, &start)
    }

    fn open_stream(file: File, path: &Path) -> Result<Self, ReadError> {
        let is_file = file.metadata().is_ok_and(|it| it.is_file());
        let offset = PIPE_HEADER_BYTES as u64;
        let mut metadata = Metadata::default();
        let mut chunks = Chunks::new(path, Input::new(ByteSource::Stream(file), offset, None));
        chunks.read_metadata(&mut metadata)?;
        if is_file && metadata.is_recorded_by_us() {
            chunks.expect_end_marker();
        }
        Self::finish_opening(path, metadata, vec![chunks])
    }

    fn open_file(file: File, path: &Path, start: &[u8]) -> Result<Self, ReadError> {
        let header_error = |problem: String| ReadError::Header {
            path: path.to_owned(),
            problem,
        };
        let section = |position: usize| {
            let (offset, size) = u64_at(start, position).zip(u64_at(start, position + 8))?;
            offset.checked_add(size)?;
            Some(Section { offset, size })
        };
        let malformed = || header_error("its header is cut off or damaged".to_owned());
        let attr_size = u64_at(start, 16).ok_or_else(malformed)?;
        let attrs = section(24).ok_or_else(malformed)?;
        let data = section(40).ok_or_else(malformed)?;
        let feature_bits: Vec<u64> = (0..4).filter_map(|it| u64_at(start, 72 + 8 * it)).collect();
        if feature_bits.len() != 4 {
            return Err(malformed());
        }
        let pread = |section: Section| read_section(&file, section);
        let mut metadata = Metadata::default();
        read_attrs(&mut metadata, attrs, attr_size, &pread).map_err(|problem| match problem {
            Some(source) => ReadError::Io {
                path: path.to_owned(),
                source,
            },
            None => header_error("its list of events is cut off or damaged".to_owned()),
        })?;
        let has_all_features = read_features(&mut metadata, data, &feature_bits, &pread);
        let attrs_end = attrs.offset + attrs.size;
        if metadata.formats.is_empty()
            && attrs_end < data.offset
            && data.offset - attrs_end < MAX_METADATA_BYTES
        {
            // A truncated recording of ours. The metadata is also between the attributes and
            // the events, as records of the original stream.
            let stream_metadata = Section {
                offset: attrs_end,
                size: data.offset - attrs_end,
            };
            if let Ok(Some(bytes)) = pread(stream_metadata) {
                read_stream_metadata(&mut metadata, bytes);
            }
        }
        // perf writes the size at the end. It is 0 if perf was killed.
        let remaining = (data.size > 0).then_some(data.size);
        let source = ByteSource::FileAt(file, data.offset);
        let mut chunks = Chunks::new(path, Input::new(source, data.offset, remaining));
        if data.size == 0 {
            chunks.defect = Some("it was not finished: the recorder was killed".to_owned());
        } else if !has_all_features {
            chunks.defect = Some("the part after its events is cut off".to_owned());
        }
        let mut files = vec![chunks];
        if metadata.has_directory {
            files.extend(directory::open_data_files(path)?);
        }
        Self::finish_opening(path, metadata, files)
    }

    /// Checks that events of KVM can be read. The first of `files` is that with the metadata.
    fn finish_opening(
        path: &Path,
        mut metadata: Metadata,
        mut files: Vec<Chunks>,
    ) -> Result<Self, ReadError> {
        let problem = if metadata.attrs.is_empty() {
            "it has no events"
        } else if let Some(problem) = metadata.unsuitable() {
            return Err(ReadError::Unsuitable {
                path: path.to_owned(),
                problem,
            });
        } else if metadata.formats.is_empty() {
            "it has no formats of its events; `perf record` does not write them when it is killed"
        } else {
            metadata.build_lookup();
            return Ok(Self {
                path: path.to_owned(),
                metadata,
                files,
            });
        };
        let reason = files
            .first_mut()
            .and_then(|it| it.defect.take())
            .map(|it| format!(" ({it})"))
            .unwrap_or_default();
        Err(ReadError::Header {
            path: path.to_owned(),
            problem: format!("{problem}{reason}"),
        })
    }

    /// Returns the recording's metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Returns the path of the recording, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the metadata, and a reader of the records of each file.
    pub(crate) fn into_parts(self) -> (Metadata, Vec<Chunks>) {
        (self.metadata, self.files)
    }
}

/// Says what a file is that does not start like a recording, given its first bytes.
fn not_a_recording(path: &Path, start: &[u8]) -> ReadError {
    let FileType { name, remedy } = match directory::is_data_file(path) {
        true => FileType::part_of_directory(),
        false => FileType::recognize(start),
    };
    ReadError::NotARecording {
        path: path.to_owned(),
        found: name,
        remedy,
    }
}
