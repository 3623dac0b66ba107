//! Exit pairing: `kvm_exit`, then the next `kvm_entry` of the same thread.
//!
//! State and totals belong to a thread, which runs on one CPU at a time, so a plain hash map's
//! entries are updated in place without atomics and without taking the map's locks.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_NOEXIST,
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    macros::tracepoint,
    programs::TracePointContext,
};
use aya_log_ebpf::warn;
use kvm_ebpf_common::{
    EXIT_SPAN_BYTES, ExitKey, ExitStats, NO_OFFSET, PairingCounters, ThreadState, VCPU_UNKNOWN,
    bucket_index,
};

use crate::{
    filter,
    maps::{EXIT_SCRATCH, EXITS, PAIRING_COUNTERS, THREADS},
    settings,
    task::Task,
    vcpu,
};

/// Where the span that is read at once begins: after the common fields.
const SPAN_OFFSET: usize = 8;

/// The fields of a `kvm_exit` record that lie after the common ones.
struct ExitSpan([u64; EXIT_SPAN_BYTES / 8]);

impl ExitSpan {
    #[inline(always)]
    fn read(ctx: &TracePointContext) -> Self {
        let mut span = [0; EXIT_SPAN_BYTES / 8];
        #[expect(clippy::cast_possible_truncation, reason = "64")]
        const BYTES: u32 = EXIT_SPAN_BYTES as u32;
        // SAFETY: exactly the array's bytes; the helper fails instead of faulting.
        unsafe {
            bpf_probe_read_kernel(
                span.as_mut_ptr().cast(),
                BYTES,
                ctx.as_ptr().cast::<u8>().add(SPAN_OFFSET).cast(),
            );
        }
        Self(span)
    }

    /// A u32 at an offset of the record; `otherwise` where the kernel has no such field. User space
    /// has checked that the offset lies within the span.
    #[inline(always)]
    fn u32_at(&self, offset: u32, otherwise: u32) -> u32 {
        let at = (offset as usize).wrapping_sub(SPAN_OFFSET);
        if offset == NO_OFFSET || at > EXIT_SPAN_BYTES - 4 {
            return otherwise;
        }
        // SAFETY: within the span, as just checked; fields are aligned.
        unsafe { self.0.as_ptr().byte_add(at).cast::<u32>().read() }
    }
}

#[inline(always)]
fn counters() -> Option<&'static mut PairingCounters> {
    // SAFETY: this CPU's copy; a tracepoint program is not entered twice on one CPU.
    PAIRING_COUNTERS
        .get_ptr_mut(0)
        .map(|counters| unsafe { &mut *counters })
}

#[tracepoint]
fn pair_exit(ctx: TracePointContext) -> u32 {
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
    let counters = counters()?;
    let span = ExitSpan::read(ctx);
    let known = THREADS
        .get_ptr_mut(task.tid)
        // SAFETY: this thread's entry, and this thread is here.
        .map(|state| unsafe { &mut *state });
    let vcpu = match &known {
        Some(state) if state.tgid == task.tgid => state.vcpu,
        _ => VCPU_UNKNOWN,
    };
    let vcpu = span.u32_at(settings::exit_vcpu_offset(), vcpu);
    if filter::by_vcpu() {
        if vcpu == VCPU_UNKNOWN {
            counters.unattributed += 1;
            return None;
        }
        if !filter::passes_vcpu(vcpu) {
            return None;
        }
    }
    let now = ThreadState {
        // SAFETY: a helper without arguments.
        exit_ns: unsafe { bpf_ktime_get_ns() },
        isa: span.u32_at(settings::isa_offset(), 0),
        reason: span.u32_at(settings::reason_offset(), 0),
        vcpu,
        tgid: task.tgid,
    };
    match known {
        Some(state) => {
            // An exit of a thread that has ended since, under the same tid, will not be entered
            // from either.
            if state.exit_ns != 0 {
                counters.unmatched += 1;
            }
            *state = now;
        }
        None => {
            if THREADS.insert(task.tid, now, 0).is_err() {
                counters.threads_full += 1;
                if settings::log() {
                    warn!(
                        ctx,
                        "no room for thread {}: its exits are not timed", task.tid
                    );
                }
            }
        }
    }
    Some(())
}

#[tracepoint]
fn pair_entry(ctx: TracePointContext) -> u32 {
    let _ = on_entry(&ctx);
    0
}

#[inline(always)]
fn on_entry(ctx: &TracePointContext) -> Option<()> {
    if !filter::running() {
        return None;
    }
    let task = Task::current();
    if !filter::passes_task(task) {
        return None;
    }
    let Some(state) = THREADS.get_ptr_mut(task.tid) else {
        // Before its first exit the thread is of interest only for its vCPU's index.
        return vcpu::learn(ctx, task);
    };
    // SAFETY: this thread's entry, and this thread is here.
    let state = unsafe { &mut *state };
    let exit_ns = state.exit_ns;
    if exit_ns == 0 {
        return None;
    }
    state.exit_ns = 0;
    if state.tgid != task.tgid {
        // Left over from an ended thread with the same tid.
        counters()?.unmatched += 1;
        return None;
    }
    // SAFETY: a helper without arguments.
    let duration_ns = unsafe { bpf_ktime_get_ns() }.wrapping_sub(exit_ns);
    let key = ExitKey {
        tgid: task.tgid,
        tid: task.tid,
        vcpu: state.vcpu,
        isa: state.isa,
        reason: state.reason,
    };
    let Some(stats) = stats_of(&key) else {
        counters()?.rows_full += 1;
        if settings::log() {
            warn!(ctx, "no room for isa {} reason {}", key.isa, key.reason);
        }
        return None;
    };
    stats.count += 1;
    stats.total_ns += duration_ns;
    if duration_ns < stats.min_ns {
        stats.min_ns = duration_ns;
    }
    if duration_ns > stats.max_ns {
        stats.max_ns = duration_ns;
    }
    stats.histogram[bucket_index(duration_ns)] += 1;
    Some(())
}

/// The totals under a key, made on first use; `None` when the map is full.
#[inline(always)]
fn stats_of(key: &ExitKey) -> Option<&'static mut ExitStats> {
    let stats = match EXITS.get_ptr_mut(key) {
        Some(stats) => stats,
        None => {
            let scratch = EXIT_SCRATCH.get_ptr_mut(0)?;
            // SAFETY: this CPU's copy, used only here; all else in it stays zero.
            let empty = unsafe {
                (*scratch).min_ns = u64::MAX;
                &*scratch
            };
            EXITS.insert(key, empty, u64::from(BPF_NOEXIST)).ok()?;
            EXITS.get_ptr_mut(key)?
        }
    };
    // SAFETY: the key names the current thread, and a thread runs on one CPU at a time.
    Some(unsafe { &mut *stats })
}
