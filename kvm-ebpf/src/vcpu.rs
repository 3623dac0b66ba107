//! Which vCPU a thread runs. Few events say it, so it is remembered from `kvm_entry`, which does
//! (on x86 since Linux 2.6.31).

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};

use crate::{filter, settings, task::Task, threads};

/// A full table shows as events that belong to no known vCPU.
#[tracepoint]
fn learn_vcpu(ctx: TracePointContext) -> u32 {
    let task = Task::current();
    if !filter::passes_task(task) {
        return 0;
    }
    // SAFETY: reads kernel memory through a helper that fails instead of faulting.
    let vcpu = unsafe { ctx.read_at::<u32>(settings::entry_vcpu_offset() as usize) };
    if let Ok(vcpu) = vcpu {
        let _ = threads::find_or_make(task, vcpu);
    }
    0
}
