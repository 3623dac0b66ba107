//! Emits records to user space: raw records of events, and the names of ending threads.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_comm, bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    programs::TracePointContext,
};
use kvm_ebpf_common::{
    COMM_BYTES, COMMON_FIELDS_BYTES, RECORD_HEADER_BYTES, RecordHeader, THREAD_END_SLOT,
};

use crate::{copy, ring::ReservedRecord, settings, task::Task};

/// Emits the current event: a header and the unchanged raw record. Returns false if the record does
/// not fit into the ring.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "record lengths, slots and CPU numbers fit"
)]
pub(crate) fn emit_event(ctx: &TracePointContext, slot: usize, task: Task, time_ns: u64) -> bool {
    let bytes = settings::record_bytes(slot);
    let Some(reserved) = ReservedRecord::reserve(bytes) else {
        return false;
    };
    // SAFETY: `bytes` is at least the length of a header. Records are aligned to 8 bytes.
    unsafe {
        reserved.data.cast::<RecordHeader>().write(RecordHeader {
            time_ns,
            tgid: task.tgid,
            cpu: reserved.cpu as u16,
            length: bytes as u16,
            event_id: settings::event_id(slot),
            slot: slot as u16,
            tid: task.tid,
        });
    }
    let copied_bytes = settings::copied_bytes(slot);
    // SAFETY: within the reserved space.
    let fields = unsafe { reserved.data.add(RECORD_HEADER_BYTES) };
    if copied_bytes != 0 {
        copy::copy_fields(ctx.as_ptr(), fields, copied_bytes);
    } else {
        // SAFETY: within the reserved space. If the record cannot be read, the helper writes zeros.
        unsafe {
            bpf_probe_read_kernel(
                fields.cast(),
                (bytes - RECORD_HEADER_BYTES) as u32,
                ctx.as_ptr().byte_add(COMMON_FIELDS_BYTES).cast(),
            );
        }
    }
    reserved.submit();
    true
}

/// Emits the name of the current thread, which is ending. If it does not fit into the ring, no event
/// is lost, only the name.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "40 bytes, and the number of a CPU"
)]
pub(crate) fn emit_thread_end(task: Task) {
    let Some(reserved) = ReservedRecord::reserve(size_of::<ThreadEnd>()) else {
        return;
    };
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let record = ThreadEnd {
        header: RecordHeader {
            time_ns,
            tgid: task.tgid,
            cpu: reserved.cpu as u16,
            length: size_of::<ThreadEnd>() as u16,
            event_id: 0,
            slot: THREAD_END_SLOT,
            tid: task.tid,
        },
        comm: bpf_get_current_comm().unwrap_or([0; COMM_BYTES]),
    };
    // SAFETY: the reserved space has this size.
    unsafe { reserved.data.cast::<ThreadEnd>().write(record) };
    reserved.submit();
}

/// Record of [`THREAD_END_SLOT`].
#[repr(C)]
struct ThreadEnd {
    header: RecordHeader,
    comm: [u8; COMM_BYTES],
}
