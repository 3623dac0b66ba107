//! Shipping: the raw record, untouched, behind a header, into the CPU's ring.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_comm, bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    programs::TracePointContext,
};
use kvm_ebpf_common::{
    COMM_BYTES, COMMON_FIELDS_BYTES, RECORD_HEADER_BYTES, RecordHeader, THREAD_END_SLOT,
};

use crate::{copy, rings::Room, settings, task::Task};

/// Ships the current event, which happened at `time_ns`; false when the ring has no room.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "record lengths, slots and CPU numbers fit"
)]
pub(crate) fn ship(ctx: &TracePointContext, slot: usize, task: Task, time_ns: u64) -> bool {
    let bytes = settings::record_bytes(slot);
    let Some(room) = Room::reserve(bytes) else {
        return false;
    };
    // SAFETY: `bytes` is at least a header's length, and all in a ring is aligned to 8.
    unsafe {
        room.to.cast::<RecordHeader>().write(RecordHeader {
            time_ns,
            tgid: task.tgid,
            cpu: room.cpu as u16,
            length: bytes as u16,
            event_id: settings::event_id(slot),
            slot: slot as u16,
            tid: task.tid,
        });
    }
    let copied_bytes = settings::copied_bytes(slot);
    // SAFETY: exactly the rest of the room.
    let behind = unsafe { room.to.add(RECORD_HEADER_BYTES) };
    if copied_bytes != 0 {
        copy::fields(ctx.as_ptr(), behind, copied_bytes);
    } else {
        // SAFETY: as above; the helper fails instead of faulting, and then zeroes.
        unsafe {
            bpf_probe_read_kernel(
                behind.cast(),
                (bytes - RECORD_HEADER_BYTES) as u32,
                ctx.as_ptr().byte_add(COMMON_FIELDS_BYTES).cast(),
            );
        }
    }
    room.publish();
    true
}

/// Ships the name of the current thread, which is ending. That there is no room for it is no loss of
/// an event.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "40 bytes, and a CPU's number"
)]
pub(crate) fn ship_thread_end(task: Task) {
    let Some(room) = Room::reserve(size_of::<ThreadEnd>()) else {
        return;
    };
    // SAFETY: a helper without arguments.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let record = ThreadEnd {
        header: RecordHeader {
            time_ns,
            tgid: task.tgid,
            cpu: room.cpu as u16,
            length: size_of::<ThreadEnd>() as u16,
            event_id: 0,
            slot: THREAD_END_SLOT,
            tid: task.tid,
        },
        comm: bpf_get_current_comm().unwrap_or([0; COMM_BYTES]),
    };
    // SAFETY: as much room as was asked for.
    unsafe { room.to.cast::<ThreadEnd>().write(record) };
    room.publish();
}

#[repr(C)]
struct ThreadEnd {
    header: RecordHeader,
    comm: [u8; COMM_BYTES],
}
