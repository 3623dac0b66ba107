//! What is kept of a thread's exits besides their sums.

use kvm_ebpf_common::{Key, PairingCounters, RecordHeader, SLOW_EXIT_SLOT, SlowExit, Span};

use super::{
    segment_log::SegmentLog,
    threads::{Room, Thread},
};

/// Events of the thread may be missing: what was open is counted, and has no time.
#[cold]
pub(super) fn interrupt(
    thread: &mut Thread,
    rows: &mut Room,
    counters: &mut PairingCounters,
    segment_log: &mut SegmentLog,
) {
    segment_log.unseen(thread);
    if let Some(unmatched) = thread.state.clock.interrupt() {
        counters.unmatched += 1;
        keep_untimed(thread, &unmatched, rows, counters);
    }
}

/// Keeps what has no time.
pub(super) fn keep_untimed(
    thread: &mut Thread,
    key: &Key,
    rows: &mut Room,
    counters: &mut PairingCounters,
) {
    match thread.row(key, rows) {
        Some(row) => row.stats.add_untimed(),
        None => rows.count_full(counters),
    }
}

/// As the kernel half reports it.
pub(super) fn slow_exit(thread: &Thread, span: &Span, now_ns: u64, cpu: u32) -> SlowExit {
    SlowExit {
        header: RecordHeader {
            time_ns: now_ns,
            tgid: thread.state.tgid(),
            cpu: u16::try_from(cpu).unwrap_or(u16::MAX),
            length: u16::try_from(size_of::<SlowExit>()).unwrap_or(u16::MAX),
            event_id: 0,
            slot: SLOW_EXIT_SLOT,
            tid: thread.state.tid(),
        },
        span: *span,
        cause: thread.state.cause,
        guest_rip: thread.state.guest_rip,
        vcpu: thread.state.vcpu,
        unused: 0,
    }
}
