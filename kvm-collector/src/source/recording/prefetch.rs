//! Prefetching: while events are played, a second thread reads, decompresses and scans the next
//! chunks of the recording.

use std::{mem, path::Path, sync::mpsc, thread};

use super::recording_files::ReadStep;
use crate::recording::ReadError;

/// Bytes that are handed over at a time. Handing over wakes the other thread, which takes as long
/// as scanning a chunk.
const BATCH_BYTES: usize = 1 << 20;

/// Chunks that are handed over at a time, if few of their bytes are needed.
const MAX_BATCH_CHUNKS: usize = 16;

impl ReadStep {
    fn bytes(&self) -> usize {
        match self {
            Self::Chunk(scanned) => scanned.chunk.len() + size_of_val(scanned.queued.as_slice()),
            Self::End(_) => 0,
        }
    }
}

/// Reads a recording with `next`, while `play` calls its argument for one step after the other. `play`
/// may return at any time; it must not ask for another step after an end or an error. `path` is only for
/// messages.
pub(super) fn with_prefetch<R>(
    path: &Path,
    mut next: impl FnMut() -> Result<ReadStep, ReadError> + Send,
    play: impl FnOnce(&mut dyn FnMut() -> Result<ReadStep, ReadError>) -> R,
) -> R {
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
                path: path.to_owned(),
                source,
            }),
            None => steps.next().unwrap_or(Ok(ReadStep::End(None))),
        })
    })
}
