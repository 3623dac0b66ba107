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
use kvm_ebpf_common::{Decision, FieldId, Key, MAX_SLOTS, NO_SLOT, Span, decide_vcpu};

use crate::{
    classic::classic,
    clock,
    counters::increment,
    field,
    filter::{self, Globals},
    rows, settings, slots, slow,
    task::Task,
    thread_entry::Entry,
    threads, turns,
};

/// Counts and ships the event as well, where it is asked for under a slot. It has passed the filters, but
/// for that by vCPU: of a vCPU that is filtered out, the thread is not known here.
#[inline(always)]
pub(crate) fn also_in_slot(ctx: &TracePointContext, slot: u32, task: Task, now_ns: u64) {
    if slot != NO_SLOT && (!filter::has_vcpus() || threads::find_living(task).is_some()) {
        // It is below MAX_SLOTS; said in a way that needs no check with a panic behind it.
        slots::take(ctx, slot as usize % MAX_SLOTS, task, || now_ns);
    }
}

/// Keeps a span that is over.
#[inline(always)]
pub(crate) fn keep<const PLAIN: bool, C: aya_ebpf::EbpfContext>(
    ctx: &C,
    entry: &mut Entry,
    span: &Span,
    now_ns: u64,
    epoch: u64,
) {
    let kept = rows::add::<PLAIN>(entry, span, epoch);
    note_full::<PLAIN, _>(ctx, kept, &span.key);
    if !PLAIN {
        slow::report(entry, span, now_ns);
    }
}

/// Keeps what has no time.
#[inline(always)]
pub(crate) fn keep_untimed(ctx: &TracePointContext, entry: &mut Entry, key: &Key) {
    let kept = rows::add_untimed(entry, key);
    note_full::<false, _>(ctx, kept, key);
}

#[inline(always)]
fn note_full<const PLAIN: bool, C: aya_ebpf::EbpfContext>(ctx: &C, kept: bool, key: &Key) {
    if kept {
        return;
    }
    increment!(rows_full);
    if !PLAIN && settings::log() {
        warn!(ctx, "no room for class {} code {}", key.subcode, key.code);
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
                increment!(unattributed);
                return None;
            }
        }
    }
    let Some(mut entry) = threads::find_or_make(task, vcpu) else {
        increment!(threads_full);
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
        subcode: field::read(ctx, FieldId::ExitSubcode) as u32,
        kind: 0,
    });
    if !PLAIN && (settings::causes() || settings::slow_ns() != u64::MAX) {
        let rip = field::read(ctx, FieldId::ExitRip);
        entry.guest_rip = rip;
        entry.cause = Key {
            code: rip,
            subcode: 0,
            kind: settings::rip_kind(),
        };
    }
    if let Some(unmatched) = entry.clock.on_exit(now_ns, key) {
        increment!(unmatched);
        keep_untimed(ctx, &mut entry, &unmatched);
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
    if let Some(mut entry) = threads::find(task) {
        turns::enter(&mut entry);
        if let Some(span) = entry.clock.on_entry(now_ns) {
            keep::<PLAIN, _>(ctx, &mut entry, &span, now_ns, epoch);
        }
    }
}

classic! {
    fn user_exit(ctx) {
        on_user::<false, false>(|now_ns, task| also_in_slot(&ctx, settings::userspace_exit_slot(), task, now_ns));
    }
}

/// The same, where the event's record is not needed.
#[raw_tracepoint]
fn user_exit_raw(_ctx: RawTracePointContext) -> u32 {
    on_user::<false, true>(|_, _| ());
    0
}

/// As `vm_exit_plain`.
#[raw_tracepoint]
fn user_exit_plain(_ctx: RawTracePointContext) -> u32 {
    on_user::<true, true>(|_, _| ());
    0
}

#[inline(always)]
fn on_user<const PLAIN: bool, const RAW: bool>(also: impl FnOnce(u64, Task)) {
    if !filter::running() {
        return;
    }
    let task = Task::current();
    if !PLAIN && !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    also(now_ns, task);
    if let Some(mut entry) = threads::find(task) {
        // The plain one is used only where no other program may run in an interrupt of it.
        if RAW && !PLAIN {
            entry.change_busy(|thread| thread.clock.on_userspace_exit(now_ns));
        } else {
            entry.clock.on_userspace_exit(now_ns);
        }
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
    if let Some(mut entry) = threads::find(task) {
        let halted_ns = field::read(ctx, FieldId::WakeupNs);
        entry.clock.on_wakeup(now_ns, halted_ns);
    }
}
