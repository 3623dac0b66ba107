//! Which vCPU a thread runs. Few events say it, so it is remembered from `kvm_entry`, which does
//! (on x86 since Linux 2.6.31).

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::FieldId;

use crate::{classic::classic, field, filter, task::Task, threads};

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
    if filter::passes_task(task) {
        let _ = threads::find_or_make(task, field::read(ctx, FieldId::EntryVcpu) as u32);
    }
}
