//! A recording's records, run by run, decompressed, up to its end or to where it is damaged.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};

use super::{
    abi::{RECORD_HEADER, record, u32_at, u64_at},
    catalog::Catalog,
    compress::Decompressor,
    error::ReadError,
    input::{Input, Piece, Stop, records, whole_records},
};

/// A stream's events begin before this.
pub(super) const MOST_BEFORE_EVENTS: u64 = 256 << 20;

/// What comes next of a recording.
#[derive(Debug)]
pub(crate) enum Next {
    /// Whole records.
    Run(Bytes),
    /// It ends here, as it should.
    End,
    /// It ends here, and should not: why.
    Damaged(String),
}

/// The records of a recording, behind what it says of itself.
#[derive(Debug)]
pub(crate) struct Runs {
    /// For messages.
    path: PathBuf,
    input: Input,
    /// Runs that were read before they were asked for.
    ahead: VecDeque<(Bytes, bool)>,
    /// A run with compressed records, and how far it has been decompressed.
    packed: Option<(Bytes, usize)>,
    decompressor: Decompressor,
    unpacked: BytesMut,
    /// What was found to be wrong before the events.
    pub(super) defect: Option<String>,
    /// Our own stream in a file: it says when it is over.
    says_end: bool,
    said_end: bool,
    over: bool,
}

impl Runs {
    pub(super) fn new(path: &Path, input: Input) -> Self {
        Self {
            path: path.to_owned(),
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

    /// That it ends without saying so is damage.
    pub(super) fn expect_end(&mut self) {
        self.says_end = true;
    }

    /// The recording's name, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Is it a file, whose bytes are there without waiting?
    pub(crate) fn is_file(&self) -> bool {
        self.input.is_file()
    }

    /// Reads a stream up to its events.
    pub(super) fn read_head(&mut self, catalog: &mut Catalog) -> Result<(), ReadError> {
        let mut before = 0;
        while before < MOST_BEFORE_EVENTS {
            match self.next_piece()? {
                Piece::Records(run, compressed) => {
                    before += run.len() as u64;
                    let mut events = compressed;
                    for (_, record) in records(&run) {
                        match u32_at(record, 0) {
                            Some(record::HEADER_ATTR) => {
                                catalog.header_attr(record);
                            }
                            Some(record::HEADER_FEATURE) => catalog.header_feature(record),
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
                    catalog.tracing_data(&data);
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
    pub(crate) fn next(&mut self) -> Result<Next, ReadError> {
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
