//! Compresses and decompresses like perf: all records of a file are one zstd stream, which is split into
//! COMPRESSED records.

use std::io;

use bytes::BytesMut;
use zstd_safe::{CCtx, DCtx, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective};

use super::{
    abi::{RECORD_HEADER, record},
    record_writer::put_record_header,
};

/// The maximum number of bytes that are compressed into one record.
pub(super) const MAX_COMPRESSED_INPUT: usize = 48 << 10;

/// The maximum decompressed size of a record. perf's records have at most the size of its buffers, which
/// is 0.5 MiB by default.
const MAX_DECOMPRESSED: usize = 64 << 20;

/// Compresses the records of a file.
pub(super) struct Compressor {
    stream: CCtx<'static>,
    level: i32,
    out: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl Compressor {
    pub(super) fn new(level: i32) -> io::Result<Self> {
        let mut stream = CCtx::create();
        stream.init(level).map_err(zstd_error)?;
        let out = Vec::with_capacity(zstd_safe::compress_bound(MAX_COMPRESSED_INPUT) + 1024);
        Ok(Self { stream, level, out })
    }

    /// Starts a new file.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.stream.init(self.level).map_err(zstd_error).map(drop)
    }

    /// Compresses complete records, and appends the result as COMPRESSED records.
    pub(super) fn compress(&mut self, records: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        for chunk in records.chunks(MAX_COMPRESSED_INPUT) {
            self.out.clear();
            let mut input = InBuffer::around(chunk);
            let mut output = OutBuffer::around(&mut self.out);
            let flush = ZSTD_EndDirective::ZSTD_e_flush;
            let unflushed = self.stream.compress_stream2(&mut output, &mut input, flush);
            // `out` has space for incompressible data, so one call compresses and flushes everything.
            if unflushed.map_err(zstd_error)? != 0 || input.pos() != chunk.len() {
                return Err(io::Error::other("zstd did not compress a whole record"));
            }
            let size = RECORD_HEADER + self.out.len();
            put_record_header(to, record::COMPRESSED, 0, size);
            to.extend_from_slice(&self.out);
        }
        Ok(())
    }
}

/// Decompresses the records of a file.
pub(super) struct Decompressor {
    stream: DCtx<'static>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self {
            stream: DCtx::create(),
            out: Vec::with_capacity(DCtx::out_size()),
        }
    }
}

impl Decompressor {
    /// Appends the decompressed contents of a record. The error describes the damage.
    pub(super) fn decompress(&mut self, data: &[u8], to: &mut BytesMut) -> Result<(), String> {
        let start = to.len();
        let mut input = InBuffer::around(data);
        loop {
            self.out.clear();
            let mut output = OutBuffer::around(&mut self.out);
            self.stream
                .decompress_stream(&mut output, &mut input)
                .map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
            let is_full = self.out.len() == self.out.capacity();
            to.extend_from_slice(&self.out);
            if to.len() - start > MAX_DECOMPRESSED {
                return Err(format!(
                    "a record of more than {} MiB",
                    MAX_DECOMPRESSED >> 20
                ));
            }
            if !is_full && input.pos() == data.len() {
                return Ok(());
            }
            if !is_full && self.out.is_empty() {
                return Err("its data is incomplete".into());
            }
        }
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(format!("zstd: {}", zstd_safe::get_error_name(code)))
}
