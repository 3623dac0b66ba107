//! Reading a recording: what it says of itself, then its records run by run.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};

use super::{
    abi::{FILE_HEADER_BYTES, MAGIC, PIPE_HEADER_BYTES, RECORD_HEADER, record, u32_at, u64_at},
    catalog::Catalog,
    compress::Decompressor,
    head::Section,
    input::{Input, Piece, Stop, records, whole_records},
};

/// An event's attr with its section of ids is not longer.
const MOST_ATTR: u64 = 4096;
/// All attrs are not longer.
const MOST_ATTRS: u64 = 64 << 20;
/// A feature is not longer.
const MOST_FEATURE: u64 = 64 << 20;
/// A stream's events begin before this.
const MOST_BEFORE_EVENTS: u64 = 256 << 20;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no perf.data file: {found}; `kvm-collector record` and `perf record` write them", .path.display())]
    NotARecording {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// It is from a machine of the other byte order.
    #[error("{} is from a {other}-endian machine, and this is none: read it on a machine of its kind", .path.display(),
        other = if cfg!(target_endian = "little") { "big" } else { "little" })]
    Endian {
        /// The file.
        path: PathBuf,
    },
    /// What has to be there before the events is not, or makes no sense.
    #[error("{} cannot be understood: {problem}", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What comes next of a recording.
#[derive(Debug)]
pub enum Next {
    /// Whole records.
    Run(Bytes),
    /// It ends here, as it should.
    End,
    /// It ends here, and should not: why.
    Damaged(String),
}

/// A recording that is being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    catalog: Catalog,
    input: Input,
    /// Runs that were read before they were asked for.
    ahead: VecDeque<(Bytes, bool)>,
    /// A run with compressed records, and how far it has been decompressed.
    packed: Option<(Bytes, usize)>,
    decompressor: Decompressor,
    unpacked: BytesMut,
    /// What was found to be wrong before the events.
    defect: Option<String>,
    /// Our own stream in a file: it says when it is over.
    says_end: bool,
    said_end: bool,
    over: bool,
}

impl Reader {
    /// Opens a file; `-` is standard input.
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
            File::open(path).map_err(io_error)?
        };
        Self::new(file, path)
    }

    /// Reads a recording that is open already; `path` is for messages.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn new(mut file: File, path: &Path) -> Result<Self, ReadError> {
        let io_error = |source| ReadError::Io {
            path: path.to_owned(),
            source,
        };
        let not = |found: &str| ReadError::NotARecording {
            path: path.to_owned(),
            found: found.to_owned(),
        };
        let mut start = Vec::with_capacity(FILE_HEADER_BYTES);
        let mut take = |bytes: usize, start: &mut Vec<u8>| {
            (&mut file)
                .take(bytes as u64)
                .read_to_end(start)
                .map_err(io_error)
        };
        take(PIPE_HEADER_BYTES, &mut start)?;
        let (Some(magic), Some(size)) = (u64_at(&start, 0), u64_at(&start, 8)) else {
            return Err(not(&format!("it has only {} bytes", start.len())));
        };
        if magic == MAGIC.swap_bytes() {
            return Err(ReadError::Endian {
                path: path.to_owned(),
            });
        }
        if magic != MAGIC {
            return Err(not("it does not begin as one"));
        }
        if size == PIPE_HEADER_BYTES as u64 {
            return Self::stream(file, path);
        }
        if size != FILE_HEADER_BYTES as u64 {
            return Err(ReadError::Header {
                path: path.to_owned(),
                problem: format!(
                    "its header says to be {size} bytes long, and such have {FILE_HEADER_BYTES}"
                ),
            });
        }
        take(FILE_HEADER_BYTES - PIPE_HEADER_BYTES, &mut start)?;
        Self::file(file, path, &start)
    }

    fn begin(path: &Path, input: Input, catalog: Catalog) -> Self {
        Self {
            path: path.to_owned(),
            catalog,
            input,
            ahead: VecDeque::new(),
            packed: None,
            decompressor: Decompressor::default(),
            unpacked: BytesMut::new(),
            defect: None,
            says_end: false,
            said_end: false,
            over: false,
        }
    }

    fn stream(file: File, path: &Path) -> Result<Self, ReadError> {
        let is_file = file.metadata().is_ok_and(|it| it.is_file());
        let at = PIPE_HEADER_BYTES as u64;
        let mut reader = Self::begin(
            path,
            Input::new(Box::new(file), at, None),
            Catalog::default(),
        );
        reader.read_ahead()?;
        reader.says_end = is_file && reader.catalog.is_ours();
        reader.checked()
    }

    /// Reads a stream up to its events.
    fn read_ahead(&mut self) -> Result<(), ReadError> {
        let mut before = 0;
        while before < MOST_BEFORE_EVENTS {
            match self.next_piece()? {
                Piece::Records(run, compressed) => {
                    before += run.len() as u64;
                    let mut events = compressed;
                    for (_, record) in records(&run) {
                        match u32_at(record, 0) {
                            Some(record::HEADER_ATTR) => {
                                self.catalog.header_attr(record);
                            }
                            Some(record::HEADER_FEATURE) => self.catalog.header_feature(record),
                            Some(record::SAMPLE) => events = true,
                            _ => {}
                        }
                    }
                    self.ahead.push_back((run, compressed));
                    if events {
                        break;
                    }
                }
                Piece::TracingData(data) => {
                    self.catalog.tracing_data(&data);
                    break;
                }
                Piece::End => {
                    self.over = true;
                    break;
                }
                Piece::Damaged(what) => {
                    self.over = true;
                    self.defect = Some(what);
                    break;
                }
            }
        }
        Ok(())
    }

    fn file(file: File, path: &Path, start: &[u8]) -> Result<Self, ReadError> {
        let header = |problem: String| ReadError::Header {
            path: path.to_owned(),
            problem,
        };
        let section = |at: usize| {
            let (offset, size) = u64_at(start, at).zip(u64_at(start, at + 8))?;
            offset.checked_add(size)?;
            Some(Section { offset, size })
        };
        let nonsense = || header("its header is cut off or makes no sense".to_owned());
        let attr_size = u64_at(start, 16).ok_or_else(nonsense)?;
        let attrs = section(24).ok_or_else(nonsense)?;
        let data = section(40).ok_or_else(nonsense)?;
        let bits: Vec<u64> = (0..4).filter_map(|it| u64_at(start, 72 + 8 * it)).collect();
        if bits.len() != 4 {
            return Err(nonsense());
        }
        let pread = |section: Section| read_section(&file, section);
        let mut catalog = Catalog::default();
        read_attrs(&mut catalog, attrs, attr_size, &pread).map_err(|problem| match problem {
            Some(source) => ReadError::Io {
                path: path.to_owned(),
                source,
            },
            None => header("its list of events is cut off or makes no sense".to_owned()),
        })?;
        let whole = read_features(&mut catalog, data, &bits, &pread);
        let attrs_end = attrs.offset + attrs.size;
        if catalog.formats.is_empty()
            && attrs_end < data.offset
            && data.offset - attrs_end < MOST_BEFORE_EVENTS
        {
            // One of ours whose end is cut off: all that is needed is also before the events.
            let gap = Section {
                offset: attrs_end,
                size: data.offset - attrs_end,
            };
            if let Ok(Some(bytes)) = pread(gap) {
                read_gap(&mut catalog, bytes);
            }
        }
        let from = Box::new(Positioned {
            file,
            at: data.offset,
        });
        // perf writes the size at the end: one that was killed has left 0.
        let left = (data.size > 0).then_some(data.size);
        let mut reader = Self::begin(path, Input::new(from, data.offset, left), catalog);
        if data.size == 0 {
            reader.defect = Some("it was not finished: what recorded it was killed".to_owned());
        } else if !whole {
            reader.defect = Some("what belongs behind its events is cut off".to_owned());
        }
        reader.checked()
    }

    fn checked(mut self) -> Result<Self, ReadError> {
        let problem = if self.catalog.attrs.is_empty() {
            "it says of no event how it is laid out"
        } else if self.catalog.formats.is_empty() {
            "it has no formats of its events; a `perf record` that was killed could not write them, other recordings have them"
        } else {
            self.catalog.complete();
            return Ok(self);
        };
        let because = self
            .defect
            .take()
            .map(|it| format!(" ({it})"))
            .unwrap_or_default();
        Err(ReadError::Header {
            path: self.path,
            problem: format!("{problem}{because}"),
        })
    }

    /// What it says of itself.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Its name, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn next_piece(&mut self) -> Result<Piece, ReadError> {
        self.input.next().map_err(|source| ReadError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// The next records, decompressed. After an end there are no others.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn next_run(&mut self) -> Result<Next, ReadError> {
        loop {
            match self.unpack() {
                Ok(Some(run)) => return Ok(Next::Run(run)),
                Ok(None) => {}
                Err(what) => {
                    (self.over, self.packed) = (true, None);
                    self.ahead.clear();
                    self.unpacked.clear();
                    return Ok(Next::Damaged(format!("a compressed record: {what}")));
                }
            }
            let piece = match self.ahead.pop_front() {
                Some((run, compressed)) => Piece::Records(run, compressed),
                None if self.over => return Ok(self.end()),
                None => self.next_piece()?,
            };
            match piece {
                Piece::Records(run, false) => {
                    self.said_end = ends_stream(&run);
                    return Ok(Next::Run(run));
                }
                Piece::Records(run, true) => {
                    self.said_end = ends_stream(&run);
                    self.packed = Some((run, 0));
                }
                Piece::TracingData(_) => {}
                Piece::End => self.over = true,
                Piece::Damaged(what) => {
                    self.over = true;
                    self.defect = Some(what);
                }
            }
        }
    }

    fn end(&mut self) -> Next {
        if let Some(what) = self.defect.take() {
            return Next::Damaged(what);
        }
        if !self.unpacked.is_empty() {
            self.unpacked.clear();
            return Next::Damaged("a compressed record is cut off".to_owned());
        }
        if std::mem::take(&mut self.says_end) && !self.said_end {
            return Next::Damaged(
                "it was not finished: up to the last 0.2 s may be missing".to_owned(),
            );
        }
        Next::End
    }

    /// Goes on in a run with compressed records, one of them at a time, so that the memory it takes stays bounded.
    fn unpack(&mut self) -> Result<Option<Bytes>, String> {
        let Some((run, at)) = &mut self.packed else {
            return Ok(None);
        };
        let plain_start = *at;
        for (place, record) in records(&run[plain_start..]) {
            let kind = u32_at(record, 0).unwrap_or(0);
            let is_packed = kind == record::COMPRESSED || kind == record::COMPRESSED2;
            if !is_packed {
                continue;
            }
            if place > 0 {
                *at = plain_start + place;
                return Ok(Some(run.slice(plain_start..plain_start + place)));
            }
            *at = plain_start + record.len();
            let data = packed_data(kind, record).ok_or("it is too short")?;
            self.decompressor.decompress(data, &mut self.unpacked)?;
            let (whole, nested, stop) = whole_records(&self.unpacked);
            match stop {
                Stop::More(_) if !nested => {}
                Stop::Nonsense(size) => return Err(format!("in it, a record of {size} bytes")),
                _ => return Err("in it, a record that cannot be there".to_owned()),
            }
            return Ok(Some(self.unpacked.split_to(whole).freeze()));
        }
        let rest = run.slice(plain_start..);
        self.packed = None;
        Ok((!rest.is_empty()).then_some(rest))
    }
}

/// Does a run end with what ends our streams?
fn ends_stream(run: &[u8]) -> bool {
    let start = run.len().saturating_sub(RECORD_HEADER);
    run.get(start..)
        .is_some_and(|it| it == super::file::stream_end())
}

fn packed_data(kind: u32, record: &[u8]) -> Option<&[u8]> {
    let body = record.get(RECORD_HEADER..)?;
    if kind == record::COMPRESSED {
        return Some(body);
    }
    // The newer kind says its length, since it is padded.
    let length = usize::try_from(u64_at(body, 0)?).ok()?;
    body.get(8..8usize.checked_add(length)?)
}

/// A section's bytes; none if the file does not have them all.
fn read_section(file: &File, section: Section) -> io::Result<Option<Bytes>> {
    // Memory for what is there, not for what is said to be.
    let Ok(size) = usize::try_from(section.size) else {
        return Ok(None);
    };
    let length = file.metadata()?.len();
    if file.metadata()?.is_file() && section.offset.saturating_add(section.size) > length {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    match file.read_exact_at(&mut bytes, section.offset) {
        Ok(()) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads all attrs with their ids. The error is the system's, or none for what makes no sense.
fn read_attrs(
    catalog: &mut Catalog,
    attrs: Section,
    attr_size: u64,
    pread: &impl Fn(Section) -> io::Result<Option<Bytes>>,
) -> Result<(), Option<io::Error>> {
    if !(64..=MOST_ATTR).contains(&attr_size) || attrs.size > MOST_ATTRS {
        return Err(None);
    }
    let attr_size = usize::try_from(attr_size).map_err(|_| None)?;
    let bytes = pread(attrs).map_err(Some)?.ok_or(None)?;
    for entry in bytes.chunks_exact(attr_size) {
        let (attr, ids) = entry.split_at(attr_size - 16);
        let ids = u64_at(ids, 0).zip(u64_at(ids, 8)).ok_or(None)?;
        let ids = Section {
            offset: ids.0,
            size: ids.1,
        };
        if ids.size > MOST_ATTRS {
            return Err(None);
        }
        let ids = pread(ids).map_err(Some)?.ok_or(None)?;
        if !catalog.add_attr(attr, &ids) {
            return Err(None);
        }
    }
    Ok(())
}

/// Reads the features that are of use; false if any is cut off.
fn read_features(
    catalog: &mut Catalog,
    data: Section,
    bits: &[u64],
    pread: &impl Fn(Section) -> io::Result<Option<Bytes>>,
) -> bool {
    let present = |number: &u32| {
        bits.get((number / 64) as usize)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    };
    let numbers: Vec<u32> = (0..256).filter(present).collect();
    let table = Section {
        offset: data.offset + data.size,
        size: 16 * numbers.len() as u64,
    };
    let Ok(Some(table)) = pread(table) else {
        return false;
    };
    let mut whole = true;
    for (number, entry) in numbers.iter().zip(table.chunks_exact(16)) {
        if !Catalog::FEATURES.contains(number) {
            continue;
        }
        let section = u64_at(entry, 0).zip(u64_at(entry, 8));
        let content = section
            .filter(|it| it.1 <= MOST_FEATURE)
            .and_then(|(offset, size)| pread(Section { offset, size }).ok().flatten());
        match content {
            Some(content) => catalog.feature(*number, &content),
            None => whole = false,
        }
    }
    whole
}

/// What one of our files has between its attrs and its events.
fn read_gap(catalog: &mut Catalog, bytes: Bytes) {
    let size = bytes.len() as u64;
    let mut input = Input::new(Box::new(io::Cursor::new(bytes)), 0, Some(size));
    loop {
        match input.next() {
            Ok(Piece::Records(run, _)) => {
                for (_, record) in records(&run) {
                    if u32_at(record, 0) == Some(record::HEADER_FEATURE) {
                        catalog.header_feature(record);
                    }
                }
            }
            Ok(Piece::TracingData(data)) => catalog.tracing_data(&data),
            _ => return,
        }
    }
}

/// A file from a place on.
#[derive(Debug)]
struct Positioned {
    file: File,
    at: u64,
}

impl io::Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
