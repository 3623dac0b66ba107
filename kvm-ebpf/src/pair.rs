//! VM exits, timed: `kvm_exit`, what happens meanwhile, and the next `kvm_entry` of the same thread.
//! What follows from which event is told by `VcpuClock`; here the events are read and the results kept.
//!
//! State and totals belong to a thread, which runs on one CPU at a time, so they are updated in place,
//! without atomics and without locks.

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_probe_read_kernel,
    macros::{raw_tracepoint, tracepoint},
    programs::{RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::warn;
use kvm_ebpf_common::{
    EXIT_SPAN_BYTES, Key, MAX_SLOTS, NO_OFFSET, NO_SLOT, PairingCounters, Span, VCPU_UNKNOWN,
};

use crate::{
    clock, filter,
    maps::PAIRING_COUNTERS,
    rows, settings, slots, slow,
    task::Task,
    threads::{self, Place},
};

/// Where the span that is read at once begins: after the common fields.
const SPAN_OFFSET: usize = 8;

/// The fields of a `kvm_exit` record that lie after the common ones.
struct ExitSpan(MaybeUninit<[u64; EXIT_SPAN_BYTES / 8]>);

impl ExitSpan {
    #[inline(always)]
    fn read(ctx: &TracePointContext) -> Self {
        // Zeroing it first would cost more than all else here.
        let mut span = MaybeUninit::<[u64; EXIT_SPAN_BYTES / 8]>::uninit();
        #[expect(clippy::cast_possible_truncation, reason = "64")]
        const BYTES: u32 = EXIT_SPAN_BYTES as u32;
        // SAFETY: exactly the array's bytes; the helper fails instead of faulting, and then zeroes them.
        unsafe {
            bpf_probe_read_kernel(
                span.as_mut_ptr().cast(),
                BYTES,
                ctx.as_ptr().cast::<u8>().add(SPAN_OFFSET).cast(),
            );
        }
        Self(span)
    }

    /// A number at an offset of the record; `otherwise` where the kernel has no such field. User
    /// space has checked that the offset lies within the span.
    #[inline(always)]
    fn at<T: Copy>(&self, offset: u32, otherwise: T) -> T {
        let at = (offset as usize).wrapping_sub(SPAN_OFFSET);
        if offset == NO_OFFSET || at > EXIT_SPAN_BYTES - size_of::<T>() {
            return otherwise;
        }
        // SAFETY: within the span, as just checked, which has been filled; fields are aligned, and all
        // are integers.
        unsafe { self.0.as_ptr().cast::<T>().byte_add(at).read() }
    }
}

#[inline(always)]
pub(crate) fn counters() -> Option<&'static mut PairingCounters> {
    // SAFETY: this CPU's copy; a tracepoint program is not entered twice on one CPU.
    PAIRING_COUNTERS
        .get_ptr_mut(0)
        .map(|counters| unsafe { &mut *counters })
}

/// Counts and ships the event as well, where it is asked for under a slot.
#[inline(always)]
pub(crate) fn also_in_slot(ctx: &TracePointContext, slot: u32, task: Task, now_ns: u64) {
    if slot != NO_SLOT {
        // It is below MAX_SLOTS; said in a way that needs no check with a panic behind it.
        slots::run_at(ctx, slot as usize % MAX_SLOTS, task, || now_ns);
    }
}

/// Keeps a span that is over.
#[inline(always)]
pub(crate) fn keep<C: aya_ebpf::EbpfContext>(
    ctx: &C,
    place: &mut Place,
    span: &Span,
    now_ns: u64,
    epoch: u64,
) {
    let kept = rows::add(place, span, epoch);
    note_full(ctx, kept, &span.key);
    slow::report(place, span, now_ns);
}

/// Keeps what has no time.
#[inline(always)]
pub(crate) fn keep_untimed(ctx: &TracePointContext, place: &mut Place, key: &Key) {
    let kept = rows::add_untimed(place, key);
    note_full(ctx, kept, key);
}

#[inline(always)]
fn note_full<C: aya_ebpf::EbpfContext>(ctx: &C, kept: bool, key: &Key) {
    if kept {
        return;
    }
    if let Some(counters) = counters() {
        counters.rows_full += 1;
    }
    if settings::log() {
        warn!(ctx, "no room for class {} code {}", key.class, key.code);
    }
}

#[tracepoint]
fn vm_exit(ctx: TracePointContext) -> u32 {
    let _ = on_exit(&ctx);
    0
}

#[inline(always)]
fn on_exit(ctx: &TracePointContext) -> Option<()> {
    if !filter::running() {
        return None;
    }
    let task = Task::current();
    if !filter::passes_task(task) {
        return None;
    }
    let now_ns = clock::now_ns();
    also_in_slot(ctx, settings::exit_slot(), task, now_ns);
    let span = ExitSpan::read(ctx);
    let mut vcpu = span.at(settings::exit_vcpu_offset(), VCPU_UNKNOWN);
    if filter::by_vcpu() {
        if vcpu == VCPU_UNKNOWN {
            vcpu = threads::find(task).map_or(VCPU_UNKNOWN, |place| place.thread.vcpu);
        }
        if vcpu == VCPU_UNKNOWN {
            counters()?.unattributed += 1;
            return None;
        }
        if !filter::passes_vcpu(vcpu) {
            return None;
        }
    }
    let Some(mut place) = threads::find_or_make(task, vcpu) else {
        counters()?.threads_full += 1;
        if settings::log() {
            warn!(
                ctx,
                "no room for thread {}: its exits are not counted", task.tid
            );
        }
        return None;
    };
    let key = settings::by_reason().then(|| Key {
        code: u64::from(span.at(settings::code_offset(), 0u32)),
        class: span.at(settings::class_offset(), 0u32),
        kind: 0,
    });
    if settings::causes() || settings::slow_ns() != u64::MAX {
        let rip = span.at(settings::rip_offset(), 0u64);
        place.thread.guest_rip = rip;
        place.thread.cause = Key {
            code: rip,
            class: 0,
            kind: settings::rip_kind(),
        };
    }
    if let Some(unmatched) = place.thread.clock.exit(now_ns, key) {
        counters()?.unmatched += 1;
        keep_untimed(ctx, &mut place, &unmatched);
    }
    Some(())
}

#[tracepoint]
fn vm_entry(ctx: TracePointContext) -> u32 {
    on_entry(&ctx, |now_ns, task| {
        also_in_slot(&ctx, settings::entry_slot(), task, now_ns);
    });
    0
}

/// The same, where the event's record is not needed: a raw tracepoint costs less.
#[raw_tracepoint]
fn vm_entry_raw(ctx: RawTracePointContext) -> u32 {
    on_entry(&ctx, |_, _| ());
    0
}

#[inline(always)]
fn on_entry<C: aya_ebpf::EbpfContext>(ctx: &C, also: impl FnOnce(u64, Task)) {
    let epoch = filter::epoch();
    if epoch == 0 {
        return;
    }
    let task = Task::current();
    if !filter::passes_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    also(now_ns, task);
    if let Some(mut place) = threads::find(task)
        && let Some(span) = place.thread.clock.entry(now_ns)
    {
        keep(ctx, &mut place, &span, now_ns, epoch);
    }
}

#[tracepoint]
fn user_exit(ctx: TracePointContext) -> u32 {
    on_user(|now_ns, task| also_in_slot(&ctx, settings::user_slot(), task, now_ns));
    0
}

/// The same, where the event's record is not needed.
#[raw_tracepoint]
fn user_exit_raw(_ctx: RawTracePointContext) -> u32 {
    on_user(|_, _| ());
    0
}

#[inline(always)]
fn on_user(also: impl FnOnce(u64, Task)) {
    if !filter::running() {
        return;
    }
    let task = Task::current();
    if !filter::passes_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    also(now_ns, task);
    if let Some(place) = threads::find(task) {
        place.thread.clock.user(now_ns);
    }
}

#[tracepoint]
fn wakeup(ctx: TracePointContext) -> u32 {
    if !filter::running() {
        return 0;
    }
    let task = Task::current();
    if !filter::passes_task(task) {
        return 0;
    }
    let now_ns = clock::now_ns();
    also_in_slot(&ctx, settings::wakeup_slot(), task, now_ns);
    if let Some(place) = threads::find(task) {
        // SAFETY: reads kernel memory through a helper that fails instead of faulting.
        let halted_ns = unsafe { ctx.read_at::<u64>(settings::wakeup_ns_offset() as usize) };
        place.thread.clock.wakeup(now_ns, halted_ns.unwrap_or(0));
    }
    0
}
