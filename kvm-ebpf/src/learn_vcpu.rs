//! Programs that find out which threads are vCPU threads, and which vCPU each runs.
//!
//! Few events have the index of the vCPU. `kvm_entry` has it on x86 (since Linux 2.6.31), so it is
//! stored at that event for all later events of the thread.

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use kvm_ebpf_common::{FieldId, VCPU_UNKNOWN};

use crate::{
    field, filter, task::Task, timing_counters::increment, tracepoint::tracepoint, vcpu_threads,
};

tracepoint! {
    /// Stores the vCPU of the current thread. If no entry is free, later events of the thread are
    /// counted as unattributed.
    fn learn_vcpu(ctx) {
        on_entry(&ctx);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
fn on_entry(ctx: &TracePointContext) {
    let task = Task::current();
    if filter::selects_task(task) {
        let vcpu = field::read(ctx, FieldId::EntryVcpu) as u32;
        let _ = vcpu_threads::find_or_insert(task, vcpu);
    }
}

/// Adds the current thread to the table of vCPU threads. Its vCPU is unknown, unless the thread's name tells it. It is
/// attached to events that occur only in vCPU threads.
#[raw_tracepoint]
fn learn_thread(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if filter::selects_task(task) && vcpu_threads::find_or_insert(task, VCPU_UNKNOWN).is_none() {
        increment!(threads_full);
    }
    0
}
