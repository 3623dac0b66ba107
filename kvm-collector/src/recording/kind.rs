//! What a record is, and what is in the small ones.

use crate::model::Thread;

use super::abi::{RECORD_HEADER, record, u16_at, u32_at, u64_at};

pub(crate) use record::{COMM, EXIT, FINISHED_ROUND, FORK, LOST, LOST_SAMPLES, SAMPLE};

/// A record's type.
#[inline]
pub(crate) fn of(record: &[u8]) -> u32 {
    u32_at(record, 0).unwrap_or(0)
}

/// What is behind a record's header.
#[inline]
pub(crate) fn body(record: &[u8]) -> &[u8] {
    record.get(RECORD_HEADER..).unwrap_or(&[])
}

/// Where that is, of a record at a place.
#[inline]
pub(crate) fn body_at(place: usize) -> usize {
    place + RECORD_HEADER
}

/// The record at a place in a run.
#[inline]
pub(crate) fn at(run: &[u8], place: usize) -> Option<&[u8]> {
    let size = usize::from(u16_at(run, place.checked_add(6)?)?);
    run.get(place..place + size)
}

/// A thread and its name.
pub(crate) fn comm(record: &[u8]) -> Option<(Thread, Box<str>)> {
    if of(record) != COMM {
        return None;
    }
    let body = body(record);
    let comm = body.get(8..)?.split(|byte| *byte == 0).next()?;
    // A name is shorter than 16 bytes; what is not, is none.
    let comm = &comm[..comm.len().min(64)];
    let thread = thread(u32_at(body, 0)?, u32_at(body, 4)?);
    Some((thread, String::from_utf8_lossy(comm).into()))
}

/// A new thread and the one that made it.
pub(crate) fn fork(record: &[u8]) -> Option<(Thread, Thread)> {
    let body = body(record);
    let number = |at| u32_at(body, at);
    (of(record) == FORK).then(|| {
        Some((
            thread(number(0)?, number(8)?),
            thread(number(4)?, number(12)?),
        ))
    })?
}

fn thread(tgid: u32, tid: u32) -> Thread {
    Thread { tgid, tid }
}

/// The number of a thread that has ended.
pub(crate) fn ended_thread(record: &[u8]) -> Option<u32> {
    new_or_ended_thread(record).filter(|_| of(record) == EXIT)
}

/// Which event was lost, as far as it is said, and how often.
pub(crate) fn lost(record: &[u8]) -> Option<(Option<u64>, u64)> {
    let body = body(record);
    match of(record) {
        LOST => Some((u64_at(body, 0), u64_at(body, 8)?)),
        LOST_SAMPLES => Some((None, u64_at(body, 0)?)),
        _ => None,
    }
}

/// The number of a thread that is new or has ended: no thread has had it, or none has it, from here on.
pub(crate) fn new_or_ended_thread(record: &[u8]) -> Option<u32> {
    let body = body(record);
    matches!(of(record), FORK | EXIT).then(|| u32_at(body, 8))?
}
