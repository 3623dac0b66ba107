//! Decodes records that are not samples: names, forks and exits of threads, and lost events.

use crate::model::ThreadId;

use super::abi::{RECORD_HEADER, record, u16_at, u32_at, u64_at};

pub(crate) use record::{COMM, EXIT, FINISHED_ROUND, FORK, LOST, LOST_SAMPLES, SAMPLE};

/// Returns the type of a record.
#[inline]
pub(crate) fn record_type(record: &[u8]) -> u32 {
    u32_at(record, 0).unwrap_or(0)
}

/// Returns the bytes of a record after its header.
#[inline]
pub(crate) fn body(record: &[u8]) -> &[u8] {
    record.get(RECORD_HEADER..).unwrap_or(&[])
}

/// Returns the offset of the body of the record at `record_offset`.
#[inline]
pub(crate) fn body_offset(record_offset: usize) -> usize {
    record_offset + RECORD_HEADER
}

/// Returns the record at an offset of a chunk.
#[inline]
pub(crate) fn record_at(chunk: &[u8], offset: usize) -> Option<&[u8]> {
    let size = usize::from(u16_at(chunk, offset.checked_add(6)?)?);
    chunk.get(offset..offset + size)
}

/// Decodes a COMM record: a thread and its name.
pub(crate) fn comm(record: &[u8]) -> Option<(ThreadId, Box<str>)> {
    if record_type(record) != COMM {
        return None;
    }
    let body = body(record);
    let comm = body.get(8..)?.split(|byte| *byte == 0).next()?;
    // The kernel's names are shorter than 16 bytes. Bound the length in damaged recordings.
    let comm = &comm[..comm.len().min(64)];
    let thread = thread(u32_at(body, 0)?, u32_at(body, 4)?);
    Some((thread, String::from_utf8_lossy(comm).into()))
}

/// Decodes a FORK record: the new thread and its parent.
pub(crate) fn fork(record: &[u8]) -> Option<(ThreadId, ThreadId)> {
    let body = body(record);
    let number = |offset| u32_at(body, offset);
    (record_type(record) == FORK).then(|| {
        Some((
            thread(number(0)?, number(8)?),
            thread(number(4)?, number(12)?),
        ))
    })?
}

fn thread(tgid: u32, tid: u32) -> ThreadId {
    ThreadId { tgid, tid }
}

/// Decodes an EXIT record: the TID of the thread that exited.
pub(crate) fn exited_tid(record: &[u8]) -> Option<u32> {
    forked_or_exited_tid(record).filter(|_| record_type(record) == EXIT)
}

/// Decodes a record about lost events: the id of the event, if the record has one, and the number of lost
/// events.
pub(crate) fn lost(record: &[u8]) -> Option<(Option<u64>, u64)> {
    let body = body(record);
    match record_type(record) {
        LOST => Some((u64_at(body, 0), u64_at(body, 8)?)),
        LOST_SAMPLES => Some((None, u64_at(body, 0)?)),
        _ => None,
    }
}

/// Decodes a FORK or EXIT record: the TID, which no thread had before the fork, or which no thread has after
/// the exit.
pub(crate) fn forked_or_exited_tid(record: &[u8]) -> Option<u32> {
    let body = body(record);
    matches!(record_type(record), FORK | EXIT).then(|| u32_at(body, 8))?
}
