//! Reading a recording: what it says of itself, then its records run by run.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use super::{
    abi::{FILE_HEADER_BYTES, MAGIC, PIPE_HEADER_BYTES, u64_at},
    catalog::Catalog,
    error::ReadError,
    head::Section,
    input::{From, Input},
    runs::{MOST_BEFORE_EVENTS, Runs},
    sections::{read_attrs, read_features, read_gap, read_section},
};

/// A recording that is being read.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    catalog: Catalog,
    runs: Runs,
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

    fn stream(file: File, path: &Path) -> Result<Self, ReadError> {
        let is_file = file.metadata().is_ok_and(|it| it.is_file());
        let at = PIPE_HEADER_BYTES as u64;
        let mut catalog = Catalog::default();
        let mut runs = Runs::new(path, Input::new(From::Stream(file), at, None));
        runs.read_head(&mut catalog)?;
        if is_file && catalog.is_ours() {
            runs.expect_end();
        }
        Self::checked(path, catalog, runs)
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
        // perf writes the size at the end: one that was killed has left 0.
        let left = (data.size > 0).then_some(data.size);
        let from = From::Place(file, data.offset);
        let mut runs = Runs::new(path, Input::new(from, data.offset, left));
        if data.size == 0 {
            runs.defect = Some("it was not finished: what recorded it was killed".to_owned());
        } else if !whole {
            runs.defect = Some("what belongs behind its events is cut off".to_owned());
        }
        Self::checked(path, catalog, runs)
    }

    fn checked(path: &Path, mut catalog: Catalog, mut runs: Runs) -> Result<Self, ReadError> {
        let problem = if catalog.attrs.is_empty() {
            "it says of no event how it is laid out"
        } else if catalog.formats.is_empty() {
            "it has no formats of its events; a `perf record` that was killed could not write them, other recordings have them"
        } else {
            catalog.complete();
            return Ok(Self {
                path: path.to_owned(),
                catalog,
                runs,
            });
        };
        let because = runs
            .defect
            .take()
            .map(|it| format!(" ({it})"))
            .unwrap_or_default();
        Err(ReadError::Header {
            path: path.to_owned(),
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

    /// What it says of itself, and its records.
    pub(crate) fn into_parts(self) -> (Catalog, Runs) {
        (self.catalog, self.runs)
    }
}
