//! Reports slow exits when they end.

use kvm_ebpf_common::{RecordHeader, SLOW_EXIT_SLOT, SlowExit, Span};

use crate::{
    ring::ReservedRecord, settings, thread_entry::ThreadEntry, timing_counters::increment,
};

/// Emits a span to user space if it is slow.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a length, and the number of a CPU"
)]
pub(crate) fn report_if_slow(entry: &ThreadEntry, span: &Span, now_ns: u64) {
    if !span.is_slow(settings::slow_ns()) {
        return;
    }
    let Some(reserved) = ReservedRecord::reserve(size_of::<SlowExit>()) else {
        increment!(slow_lost);
        return;
    };
    let record = SlowExit {
        header: RecordHeader {
            time_ns: now_ns,
            tgid: entry.tgid(),
            cpu: reserved.cpu as u16,
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
    // SAFETY: the reserved space has this size.
    unsafe { reserved.data.cast::<SlowExit>().write(record) };
    reserved.submit();
}
