//! Shipping: the raw record, untouched, behind a header, into the ring buffer.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{
        bpf_get_current_comm, bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::bpf_probe_read_kernel,
    },
    programs::TracePointContext,
};
use kvm_ebpf_common::{COMM_BYTES, RECORD_HEADER_BYTES, RecordHeader, THREAD_END_SLOT};

use crate::{maps::RING, settings, task::Task};

/// The common fields at the start of a record. The kernel has put a pointer of its own over them by
/// the time the program runs.
const COMMON_BYTES: usize = 8;

/// Ships the current event, which happened at `time_ns`; false when the ring buffer has no room.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "record lengths, slots and CPU numbers fit"
)]
pub(crate) fn ship(ctx: &TracePointContext, slot: usize, task: Task, time_ns: u64) -> bool {
    let bytes = settings::record_bytes(slot);
    let Some(mut entry) = RING.reserve_bytes(bytes, 0) else {
        return false;
    };
    let to = entry.as_mut_ptr();
    // SAFETY: `bytes` is at least a header's length, and the ring's entries are 8-byte aligned.
    unsafe {
        to.cast::<RecordHeader>().write(RecordHeader {
            time_ns,
            tgid: task.tgid,
            cpu: bpf_get_smp_processor_id() as u16,
            length: bytes as u16,
            event_id: settings::event_id(slot),
            slot: slot as u16,
            tid: task.tid,
        });
    }
    // SAFETY: exactly the rest of the entry; the helper fails instead of faulting, and then zeroes.
    unsafe {
        bpf_probe_read_kernel(
            to.add(RECORD_HEADER_BYTES).cast(),
            (bytes - RECORD_HEADER_BYTES) as u32,
            ctx.as_ptr().cast::<u8>().add(COMMON_BYTES).cast(),
        );
    }
    entry.submit(wakeup(bytes as u64));
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
    let Some(mut entry) = RING.reserve::<ThreadEnd>(0) else {
        return;
    };
    // SAFETY: helpers without arguments.
    let (time_ns, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    entry.write(ThreadEnd {
        header: RecordHeader {
            time_ns,
            tgid: task.tgid,
            cpu: cpu as u16,
            length: size_of::<ThreadEnd>() as u16,
            event_id: 0,
            slot: THREAD_END_SLOT,
            tid: task.tid,
        },
        comm: bpf_get_current_comm().unwrap_or([0; COMM_BYTES]),
    });
    entry.submit(wakeup(size_of::<ThreadEnd>() as u64));
}

#[repr(C)]
struct ThreadEnd {
    header: RecordHeader,
    comm: [u8; COMM_BYTES],
}

/// Waking the reader for each event would cost more than the event: it is woken each time another so many
/// bytes have come together, and looks by itself now and then.
#[inline(always)]
pub(crate) fn wakeup(bytes: u64) -> u64 {
    let waiting = RING.query(u64::from(BPF_RB_AVAIL_DATA));
    let shift = settings::wakeup_shift();
    // Were it "at least so many", every event would wake a reader that does not get to run.
    if waiting >> shift != waiting.saturating_sub(bytes) >> shift {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}
