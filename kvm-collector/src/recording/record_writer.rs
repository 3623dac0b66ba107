//! Appends single perf records to a buffer.

use super::abi::{RECORD_HEADER, RECORD_HEADER_SIZE, record};

/// Size of the sample id that every record ends with, except samples: thread, time, CPU and event id.
const SAMPLE_ID_BYTES: usize = 32;

/// The kernel's limit for thread names, including the NUL.
const TASK_COMM_LEN: usize = 16;

/// Returns the event id of the samples of an event, given the event's index in the recording.
pub(super) fn event_id(event_index: usize) -> u64 {
    event_index as u64 + 1
}

/// Appends a record header. `size` is that of the whole record, which is less than 64 KiB.
pub(super) fn put_record_header(to: &mut Vec<u8>, record_type: u32, misc: u16, size: usize) {
    debug_assert!(size <= usize::from(u16::MAX));
    to.extend_from_slice(&record_type.to_ne_bytes());
    to.extend_from_slice(&misc.to_ne_bytes());
    to.extend_from_slice(&u16::try_from(size).unwrap_or(u16::MAX).to_ne_bytes());
}

/// Appends a record with the name of a thread.
pub(super) fn put_comm(to: &mut Vec<u8>, tgid: u32, tid: u32, comm: &[u8], time_ns: u64) {
    let comm = &comm[..comm.len().min(TASK_COMM_LEN - 1)];
    let padded = (comm.len() + 1).next_multiple_of(8);
    let size = RECORD_HEADER + 8 + padded + SAMPLE_ID_BYTES;
    put_record_header(to, record::COMM, 0, size);
    to.extend_from_slice(&tgid.to_ne_bytes());
    to.extend_from_slice(&tid.to_ne_bytes());
    to.extend_from_slice(comm);
    to.resize(to.len() + padded - comm.len(), 0);
    put_sample_id(to, (tgid, tid), time_ns, 0, 1);
}

/// Appends a record for the exit of a thread.
pub(super) fn put_exit(to: &mut Vec<u8>, tgid: u32, tid: u32, time_ns: u64) {
    put_record_header(to, record::EXIT, 0, RECORD_HEADER + 24 + SAMPLE_ID_BYTES);
    // The parent is unknown, and readers do not need it: put the thread itself in its place.
    for number in [tgid, tgid, tid, tid] {
        to.extend_from_slice(&number.to_ne_bytes());
    }
    to.extend_from_slice(&time_ns.to_ne_bytes());
    put_sample_id(to, (tgid, tid), time_ns, 0, 1);
}

/// Appends a count of lost events. `event_index` is `None` if the events may be of any kind.
pub(super) fn put_lost(to: &mut Vec<u8>, event_index: Option<usize>, lost: u64, time_ns: u64) {
    let id = event_index.map_or(0, event_id);
    put_record_header(to, record::LOST, 0, RECORD_HEADER + 16 + SAMPLE_ID_BYTES);
    to.extend_from_slice(&id.to_ne_bytes());
    to.extend_from_slice(&lost.to_ne_bytes());
    put_sample_id(to, (0, 0), time_ns, 0, id.max(1));
}

/// Appends a marker: the CPU lost events at some time between `from_ns` and `to_ns`. It is a LOST
/// record with a count of 0 and `to_ns` as its event id.
pub(super) fn put_loss_window(to: &mut Vec<u8>, cpu: u32, from_ns: u64, to_ns: u64) {
    put_record_header(to, record::LOST, 0, RECORD_HEADER + 16 + SAMPLE_ID_BYTES);
    to.extend_from_slice(&to_ns.to_ne_bytes());
    to.extend_from_slice(&0u64.to_ne_bytes());
    put_sample_id(to, (0, 0), from_ns, cpu, 1);
}

fn put_sample_id(to: &mut Vec<u8>, (tgid, tid): (u32, u32), time_ns: u64, cpu: u32, event_id: u64) {
    to.extend_from_slice(&tgid.to_ne_bytes());
    to.extend_from_slice(&tid.to_ne_bytes());
    to.extend_from_slice(&time_ns.to_ne_bytes());
    to.extend_from_slice(&u64::from(cpu).to_ne_bytes());
    to.extend_from_slice(&event_id.to_ne_bytes());
}

/// Returns the record at the end of a stream that was finished normally. Readers skip it.
pub(super) fn end_marker() -> [u8; RECORD_HEADER] {
    let mut record = [0; RECORD_HEADER];
    record[..4].copy_from_slice(&record::PADDING.to_ne_bytes());
    record[6..].copy_from_slice(&RECORD_HEADER_SIZE.to_ne_bytes());
    record
}
