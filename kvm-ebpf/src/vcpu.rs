//! Which threads are vCPUs', and which vCPU each runs. Few events say that, so it is remembered from `kvm_entry`, which
//! does (on x86 since Linux 2.6.31).

use aya_ebpf::{
    macros::raw_tracepoint,
    programs::{RawTracePointContext, TracePointContext},
};
use kvm_ebpf_common::{FieldId, VCPU_UNKNOWN};

use crate::{classic::classic, counters::increment, field, filter, task::Task, threads};

classic! {
    /// A full table shows as events that belong to no known vCPU.
    fn learn_vcpu(ctx) {
        learn(&ctx);
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
fn learn(ctx: &TracePointContext) {
    let task = Task::current();
    if filter::selects_task(task) {
        let _ = threads::find_or_make(task, field::read(ctx, FieldId::EntryVcpu) as u32);
    }
}

/// For events that only a vCPU's thread has; which vCPU it is need not be known.
#[raw_tracepoint]
fn learn_thread(_ctx: RawTracePointContext) -> u32 {
    let task = Task::current();
    if filter::selects_task(task) && threads::find_or_make(task, VCPU_UNKNOWN).is_none() {
        increment!(threads_full);
    }
    0
}
