//! Programs that time VM exits: from `kvm_exit` to the next `kvm_entry` of the same thread.
//!
//! Programs read the events and record the results. [`VcpuClock`](kvm_ebpf_common::VcpuClock) decides
//! what follows from an event. Programs change a thread's state and rows in place, without locks and
//! atomic instructions, because a thread runs on one CPU at a time.
//!
//! Suffixes of program names:
//! - `_plain`: for exits by reason without any other feature (`REASONS_ONLY`). It takes a few
//!   instructions less, because checks for other features are left out.
//! - `_raw`: a raw tracepoint program, which costs less. It is used if the event has no slot, so its
//!   record is not needed.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::warn;
use kvm_ebpf_common::{Decision, FieldId, Key, MAX_SLOTS, NO_SLOT, Span, decide_vcpu};

use crate::{
    clock, epoch, field,
    filter::{self, UserSelection},
    rows, settings, slots, slow_exit,
    task::Task,
    thread_entry::ThreadEntry,
    timing_counters::increment,
    tracepoint::tracepoint,
    vcpu_index_reuse, vcpu_threads,
};

/// Counts and emits the current event in a slot, if it has one.
///
/// The event has passed all filters, except possibly the one by vCPU.
#[inline(always)]
pub(crate) fn count_in_slot(ctx: &TracePointContext, slot: u32, task: Task, now_ns: u64) {
    if slot != NO_SLOT && filter::selects_vcpu_of_thread(task) {
        // The slot is below MAX_SLOTS. With the modulo, the compiler needs no check that could panic.
        slots::count_and_emit(ctx, slot as usize % MAX_SLOTS, task, || now_ns);
    }
}

/// Adds a completed span to its row, and reports it if it is slow.
#[inline(always)]
pub(crate) fn record_span<const REASONS_ONLY: bool, C: aya_ebpf::EbpfContext>(
    ctx: &C,
    entry: &mut ThreadEntry,
    span: &Span,
    now_ns: u64,
    epoch: u64,
) {
    let has_row = rows::add::<REASONS_ONLY>(entry, span, epoch);
    if !has_row {
        report_full_rows::<REASONS_ONLY, _>(ctx, &span.key);
    }
    if !REASONS_ONLY {
        slow_exit::report_if_slow(entry, span, now_ns);
    }
}

/// Counts a span without a duration in its row.
#[inline(always)]
pub(crate) fn record_untimed(ctx: &TracePointContext, entry: &mut ThreadEntry, key: &Key) {
    let has_row = rows::add_untimed(entry, key);
    if !has_row {
        report_full_rows::<false, _>(ctx, key);
    }
}

#[inline(always)]
fn report_full_rows<const REASONS_ONLY: bool, C: aya_ebpf::EbpfContext>(ctx: &C, key: &Key) {
    increment!(rows_full);
    if !REASONS_ONLY && settings::log() {
        warn!(ctx, "no row for subcode {} code {}", key.subcode, key.code);
    }
}

tracepoint! {
    fn vm_exit(ctx) {
        let _ = on_exit::<false>(&ctx);
    }
}

tracepoint! {
    fn vm_exit_plain(ctx) {
        let _ = on_exit::<true>(&ctx);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "these fields have 4 bytes")]
fn on_exit<const REASONS_ONLY: bool>(ctx: &TracePointContext) -> Option<()> {
    if !epoch::is_measuring() {
        return None;
    }
    let task = Task::current();
    if !REASONS_ONLY && !filter::selects_task(task) {
        return None;
    }
    let now_ns = clock::now_ns();
    let mut vcpu = field::read(ctx, FieldId::ExitVcpu) as u32;
    let mut is_skipped = false;
    if !REASONS_ONLY {
        let known_vcpu = || {
            vcpu = filter::vcpu_of_event(vcpu, task);
            vcpu
        };
        match decide_vcpu(&UserSelection, known_vcpu) {
            Decision::Selected => {}
            Decision::Skipped => is_skipped = true,
            Decision::VcpuUnknown => {
                increment!(unattributed);
                return None;
            }
        }
    }
    // A thread that runs another vCPU than the selected ones has an entry too, so that its events without a
    // vCPU are known not to be selected.
    let found = vcpu_threads::find_or_insert(task, vcpu);
    if is_skipped {
        return None;
    }
    let Some(mut entry) = found else {
        increment!(threads_full);
        if !REASONS_ONLY && settings::log() {
            warn!(
                ctx,
                "no entry for thread {}: its exits are not counted", task.tid
            );
        }
        return None;
    };
    if !REASONS_ONLY {
        count_in_slot(ctx, settings::exit_slot(), task, now_ns);
    }
    let key = (REASONS_ONLY || settings::by_reason()).then(|| Key {
        code: field::read(ctx, FieldId::ExitCode),
        subcode: field::read(ctx, FieldId::ExitSubcode) as u32,
        kind: 0,
    });
    if !REASONS_ONLY && (settings::stores_causes() || settings::slow_ns() != u64::MAX) {
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
        record_untimed(ctx, &mut entry, &unmatched);
    }
    Some(())
}

tracepoint! {
    fn vm_entry(ctx) {
        on_entry::<false, _>(&ctx, |now_ns, task| {
            count_in_slot(&ctx, settings::entry_slot(), task, now_ns);
        });
    }
}

#[raw_tracepoint]
fn vm_entry_raw(ctx: RawTracePointContext) -> u32 {
    on_entry::<false, _>(&ctx, |_, _| ());
    0
}

#[raw_tracepoint]
fn vm_entry_plain(ctx: RawTracePointContext) -> u32 {
    on_entry::<true, _>(&ctx, |_, _| ());
    0
}

#[inline(always)]
fn on_entry<const REASONS_ONLY: bool, C: aya_ebpf::EbpfContext>(
    ctx: &C,
    count_in_slot: impl FnOnce(u64, Task),
) {
    let epoch = epoch::current();
    if epoch == 0 {
        return;
    }
    let task = Task::current();
    if !REASONS_ONLY && !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    count_in_slot(now_ns, task);
    if let Some(mut entry) = vcpu_threads::find(task) {
        vcpu_index_reuse::on_entry(&mut entry);
        if let Some(span) = entry.clock.on_entry(now_ns) {
            record_span::<REASONS_ONLY, _>(ctx, &mut entry, &span, now_ns, epoch);
        }
    }
}

tracepoint! {
    fn user_exit(ctx) {
        on_userspace_exit::<false, false>(|now_ns, task| {
            count_in_slot(&ctx, settings::userspace_exit_slot(), task, now_ns);
        });
    }
}

#[raw_tracepoint]
fn user_exit_raw(_ctx: RawTracePointContext) -> u32 {
    on_userspace_exit::<false, true>(|_, _| ());
    0
}

#[raw_tracepoint]
fn user_exit_plain(_ctx: RawTracePointContext) -> u32 {
    on_userspace_exit::<true, true>(|_, _| ());
    0
}

#[inline(always)]
fn on_userspace_exit<const REASONS_ONLY: bool, const RAW: bool>(
    count_in_slot: impl FnOnce(u64, Task),
) {
    if !epoch::is_measuring() {
        return;
    }
    let task = Task::current();
    if !REASONS_ONLY && !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    count_in_slot(now_ns, task);
    if let Some(mut entry) = vcpu_threads::find(task) {
        // `user_exit_plain` is used only with programs that cannot run in an interrupt of it.
        if RAW && !REASONS_ONLY {
            entry.update_as_busy(|thread| thread.clock.on_userspace_exit(now_ns));
        } else {
            entry.clock.on_userspace_exit(now_ns);
        }
    }
}

tracepoint! {
    fn wakeup(ctx) {
        on_wakeup(&ctx);
    }
}

#[inline(always)]
fn on_wakeup(ctx: &TracePointContext) {
    if !epoch::is_measuring() {
        return;
    }
    let task = Task::current();
    if !filter::selects_task(task) {
        return;
    }
    let now_ns = clock::now_ns();
    count_in_slot(ctx, settings::wakeup_slot(), task, now_ns);
    if let Some(mut entry) = vcpu_threads::find(task) {
        let halted_ns = field::read(ctx, FieldId::WakeupNs);
        entry.clock.on_wakeup(now_ns, halted_ns);
    }
}
