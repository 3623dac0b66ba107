//! Slow exits, reported as they end.

use kvm_ebpf_common::{RecordHeader, SLOW_EXIT_SLOT, SlowExit, Span};

use crate::{counters::increment, rings::Room, settings, thread_entry::Entry};

/// Queues a span for user space if it is slow.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a length, and a CPU's number"
)]
pub(crate) fn report(entry: &Entry, span: &Span, now_ns: u64) {
    if !span.is_slow(settings::slow_ns()) {
        return;
    }
    let Some(room) = Room::reserve(size_of::<SlowExit>()) else {
        increment!(slow_lost);
        return;
    };
    let report = SlowExit {
        header: RecordHeader {
            time_ns: now_ns,
            tgid: entry.tgid(),
            cpu: room.cpu as u16,
            length: size_of::<SlowExit>() as u16,
            event_id: 0,
            slot: SLOW_EXIT_SLOT,
            tid: entry.tid(),
        },
        span: *span,
        cause: entry.cause,
        guest_rip: entry.guest_rip,
        vcpu: entry.vcpu,
        padding: 0,
    };
    // SAFETY: as much room as was asked for.
    unsafe { room.to.cast::<SlowExit>().write(report) };
    room.publish();
}
