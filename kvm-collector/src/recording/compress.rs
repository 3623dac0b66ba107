//! Compression as perf has it: one zstd stream over all records of a file, cut into records.

use std::io;

use bytes::BytesMut;
use zstd_safe::{CCtx, DCtx, InBuffer, OutBuffer, zstd_sys::ZSTD_EndDirective};

use super::{
    abi::{RECORD_HEADER, record},
    head::{COMPRESSED_INPUT, put_header},
};

/// A record decompresses to this much at most: perf's own have no more than the size of its buffers, by default 0.5 MiB.
const MOST_OUT: usize = 64 << 20;

/// Compresses what goes into a file.
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
        stream.init(level).map_err(failed)?;
        let out = Vec::with_capacity(zstd_safe::compress_bound(COMPRESSED_INPUT) + 1024);
        Ok(Self { stream, level, out })
    }

    /// A new file begins.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.stream.init(self.level).map_err(failed).map(drop)
    }

    /// Appends whole records, compressed.
    pub(super) fn compress(&mut self, records: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        for chunk in records.chunks(COMPRESSED_INPUT) {
            self.out.clear();
            let mut input = InBuffer::around(chunk);
            let mut output = OutBuffer::around(&mut self.out);
            let flush = ZSTD_EndDirective::ZSTD_e_flush;
            let rest = self.stream.compress_stream2(&mut output, &mut input, flush);
            // There is room for the worst case, so that one call takes all and leaves nothing inside.
            if rest.map_err(failed)? != 0 || input.pos() != chunk.len() {
                return Err(io::Error::other("zstd did not compress a whole record"));
            }
            let size = RECORD_HEADER + self.out.len();
            put_header(to, record::COMPRESSED, 0, size);
            to.extend_from_slice(&self.out);
        }
        Ok(())
    }
}

/// Decompresses what comes from a file.
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
    /// Appends what a compressed record holds. Damage is an error in words.
    pub(super) fn decompress(&mut self, data: &[u8], to: &mut BytesMut) -> Result<(), String> {
        let start = to.len();
        let mut input = InBuffer::around(data);
        loop {
            self.out.clear();
            let mut output = OutBuffer::around(&mut self.out);
            self.stream
                .decompress_stream(&mut output, &mut input)
                .map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
            let full = self.out.len() == self.out.capacity();
            to.extend_from_slice(&self.out);
            if to.len() - start > MOST_OUT {
                return Err(format!("a record of more than {} MiB", MOST_OUT >> 20));
            }
            if !full && input.pos() == data.len() {
                return Ok(());
            }
            if !full && self.out.is_empty() {
                return Err("it does not go on".into());
            }
        }
    }
}

fn failed(code: usize) -> io::Error {
    io::Error::other(format!("zstd: {}", zstd_safe::get_error_name(code)))
}
