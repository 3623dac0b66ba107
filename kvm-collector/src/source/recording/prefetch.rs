//! Prefetching: while events are played, a second thread reads, decompresses and scans the next
//! chunks of the recording.

use std::{mem, sync::mpsc, thread};

use super::scan::{ScannedChunk, Scanner};
use crate::recording::{Chunks, NextChunk, ReadError};

/// Bytes that are handed over at a time. Handing over wakes the other thread, which takes as long
/// as scanning a chunk.
const BATCH_BYTES: usize = 1 << 20;

/// Chunks that are handed over at a time, if few of their bytes are needed.
const MAX_BATCH_CHUNKS: usize = 16;

/// The result of reading on in a recording.
#[derive(Debug)]
pub(super) enum ReadStep {
    /// The next chunk.
    Chunk(ScannedChunk),
    /// The end of the recording; with a message if it ends too early.
    End(Option<String>),
}

impl ReadStep {
    fn bytes(&self) -> usize {
        match self {
            Self::Chunk(scanned) => scanned.chunk.len() + size_of_val(scanned.queued.as_slice()),
            Self::End(_) => 0,
        }
    }
}

/// Reads a recording, while `play` calls its argument for one step after the other. `play` may
/// return at any time; it must not ask for another step after an end or an error.
pub(super) fn with_prefetch<R>(
    mut chunks: Chunks,
    mut scanner: Scanner<'_>,
    play: impl FnOnce(&mut dyn FnMut() -> Result<ReadStep, ReadError>) -> R,
) -> R {
    // Pipes are not prefetched: a thread that waits for their data could not be stopped.
    let is_file = chunks.is_file();
    let path = chunks.path().to_owned();
    let mut next = move || {
        Ok(match chunks.next()? {
            NextChunk::Chunk(chunk) => ReadStep::Chunk(scanner.scan(chunk)),
            NextChunk::End => ReadStep::End(None),
            NextChunk::Damaged(defect) => ReadStep::End(Some(defect)),
        })
    };
    if !is_file {
        return play(&mut next);
    }
    thread::scope(|scope| {
        // One batch is played, one waits in the channel, and one is being read.
        let (sender, batches) = mpsc::sync_channel::<Vec<_>>(1);
        let prefetch = move || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            loop {
                let step = next();
                let is_last = !matches!(step, Ok(ReadStep::Chunk(_)));
                bytes += step.as_ref().map_or(0, ReadStep::bytes);
                batch.push(step);
                if is_last || bytes >= BATCH_BYTES || batch.len() >= MAX_BATCH_CHUNKS {
                    bytes = 0;
                    // Sending fails when `play` has returned.
                    if sender.send(mem::take(&mut batch)).is_err() || is_last {
                        return;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("reader".to_owned());
        let mut spawn_error = thread.spawn_scoped(scope, prefetch).err();
        let mut steps = batches.into_iter().flatten();
        // The steps only end without `ReadStep::End` if the thread has panicked. The scope then
        // panics as well.
        play(&mut move || match spawn_error.take() {
            Some(source) => Err(ReadError::Io {
                path: path.clone(),
                source,
            }),
            None => steps.next().unwrap_or(Ok(ReadStep::End(None))),
        })
    })
}
