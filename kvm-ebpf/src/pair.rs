//! VM exits, timed: `kvm_exit`, what happens meanwhile, and the next `kvm_entry` of the same thread.
//! What follows from which event is told by `VcpuClock`; here the events are read and the results kept.
//!
//! State and totals belong to a thread, which runs on one CPU at a time, so they are updated in place,
//! without atomics and without locks.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::warn;
use kvm_ebpf_common::{
    Decision, FieldId, Key, MAX_SLOTS, NO_SLOT, PairingCounters, Span, decide_vcpu,
};

use crate::{
    classic::classic,
    clock, field,
    filter::{self, Globals},
    maps::PAIRING_COUNTERS,
    rows, settings, slots, slow,
    task::Task,
    threads::{self, Place},
    turns,
};

#[inline(always)]
pub(crate) fn counters() -> Option<&'static mut PairingCounters> {
    // SAFETY: this CPU's copy; a tracepoint program is not entered twice on one CPU.
    PAIRING_COUNTERS
        .get_ptr_mut(0)
        .map(|counters| unsafe { &mut *counters })
}

/// Counts and ships the event as well, where it is asked for under a slot. It has passed the filters, but
/// for that by vCPU: of a vCPU that is filtered out, the thread is not known here.
#[inline(always)]
pub(crate) fn also_in_slot(ctx: &TracePointContext, slot: u32, task: Task, now_ns: u64) {
    if slot != NO_SLOT && (!filter::has_vcpus() || threads::find(task).is_some()) {
        // It is below MAX_SLOTS; said in a way that needs no check with a panic behind it.
        slots::take(ctx, slot as usize % MAX_SLOTS, task, || now_ns);
    }
}

/// Keeps a span that is over.
#[inline(always)]
pub(crate) fn keep<const PLAIN: bool, C: aya_ebpf::EbpfContext>(
    ctx: &C,
    place: &mut Place,
    span: &Span,
    now_ns: u64,
    epoch: u64,
) {
    let kept = rows::add::<PLAIN>(place, span, epoch);
    note_full::<PLAIN, _>(ctx, kept, &span.key);
    if !PLAIN {
        slow::report(place, span, now_ns);
    }
}

/// Keeps what has no time.
#[inline(always)]
pub(crate) fn keep_untimed(ctx: &TracePointContext, place: &mut Place, key: &Key) {
    let kept = rows::add_untimed(place, key);
    note_full::<false, _>(ctx, kept, key);
}

#[inline(always)]
fn note_full<const PLAIN: bool, C: aya_ebpf::EbpfContext>(ctx: &C, kept: bool, key: &Key) {
    if kept {
        return;
    }
    if let Some(counters) = counters() {
        counters.rows_full += 1;
    }
    if !PLAIN && settings::log() {
        warn!(ctx, "no room for class {} code {}", key.class, key.code);
    }
}

classic! {
    fn vm_exit(ctx) {
        let _ = on_exit::<false>(&ctx);
    }
}

classic! {
    /// The same, where no more is asked for than all exits by their reason: what is not asked for costs a few
    /// instructions elsewhere.
    fn vm_exit_plain(ctx) {
        let _ = on_exit::<true>(&ctx);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "these fields have 4 bytes")]
fn on_exit<const PLAIN: bool>(ctx: &TracePointContext) -> Option<()> {
    if !filter::running() {
        return None;
    }
    let task = Task::current();
    if !PLAIN && !filter::selects_task(task) {
        return None;
    }
    let now_ns = clock::now_ns();
    let mut vcpu = field::read(ctx, FieldId::ExitVcpu) as u32;
    if !PLAIN {
        let known = || {
            vcpu = filter::vcpu_of(vcpu, task);
            vcpu
        };
        match decide_vcpu(&Globals, known) {
            Decision::Selected => {}
            Decision::Skipped => return None,
            Decision::VcpuUnknown => {
                counters()?.unattributed += 1;
                return None;
            }
        }
    }
    let Some(mut place) = threads::find_or_make(task, vcpu) else {
        counters()?.threads_full += 1;
        if !PLAIN && settings::log() {
            warn!(
                ctx,
                "no room for thread {}: its exits are not counted", task.tid
            );
        }
        return None;
    };
    if !PLAIN {
        also_in_slot(ctx, settings::exit_slot(), task, now_ns);
    }
    let key = (PLAIN || settings::by_reason()).then(|| Key {
        code: field::read(ctx, FieldId::ExitCode),
        class: field::read(ctx, FieldId::ExitClass) as u32,
        kind: 0,
    });
    if !PLAIN && (settings::causes() || settings::slow_ns() != u64::MAX) {
        let rip = field::read(ctx, FieldId::ExitRip);
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

classic! {
    fn vm_entry(ctx) {
        on_entry::<false, _>(&ctx, |now_ns, task| {
            also_in_slot(&ctx, settings::entry_slot(), task, now_ns);
        });
    }
}

/// The same, where the event's record is not needed: a raw tracepoint costs less.
#[raw_tracepoint]
fn vm_entry_raw(ctx: RawTracePointContext) -> u32 {
    on_entry::<false, _>(&ctx, |_, _| ());
    0
}

/// As `vm_exit_plain`.
#[raw_tracepoint]
fn vm_entry_plain(ctx: RawTracePointContext) -> u32 {
    on_entry::<true, _>(&ctx, |_, _| ());
    0
}

#[inline(always)]
fn on_entry<const PLAIN: bool, C: aya_ebpf::EbpfContext>(ctx: &C, also: impl FnOnce(u64, Task)) {
    let epoch = filter::epoch();
    if epoch == 0 {
        return;
    }
    let task = Task::current();
    if !PLAIN && !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    also(now_ns, task);
    if let Some(mut place) = threads::find(task) {
        turns::enter(&mut place);
        if let Some(span) = place.thread.clock.entry(now_ns) {
            keep::<PLAIN, _>(ctx, &mut place, &span, now_ns, epoch);
        }
    }
}

classic! {
    fn user_exit(ctx) {
        on_user::<false>(|now_ns, task| also_in_slot(&ctx, settings::user_slot(), task, now_ns));
    }
}

/// The same, where the event's record is not needed.
#[raw_tracepoint]
fn user_exit_raw(_ctx: RawTracePointContext) -> u32 {
    on_user::<false>(|_, _| ());
    0
}

/// As `vm_exit_plain`.
#[raw_tracepoint]
fn user_exit_plain(_ctx: RawTracePointContext) -> u32 {
    on_user::<true>(|_, _| ());
    0
}

#[inline(always)]
fn on_user<const PLAIN: bool>(also: impl FnOnce(u64, Task)) {
    if !filter::running() {
        return;
    }
    let task = Task::current();
    if !PLAIN && !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    also(now_ns, task);
    if let Some(place) = threads::find(task) {
        place.thread.clock.user(now_ns);
    }
}

classic! {
    fn wakeup(ctx) {
        on_wakeup(&ctx);
    }
}

#[inline(always)]
fn on_wakeup(ctx: &TracePointContext) {
    if !filter::running() {
        return;
    }
    let task = Task::current();
    if !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    also_in_slot(ctx, settings::wakeup_slot(), task, now_ns);
    if let Some(place) = threads::find(task) {
        let halted_ns = field::read(ctx, FieldId::WakeupNs);
        place.thread.clock.wakeup(now_ns, halted_ns);
    }
}
