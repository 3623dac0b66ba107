//! What is asked for, decided before anything else is done.

use core::ptr::read_volatile;

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::{FieldId, MAX_FILTER_IDS, VCPU_UNKNOWN};

use crate::{field, maps::THREAD_OF, settings, task::Task, threads};

/// Is `id` in the list? The count is a constant to the verifier, so of this loop as many steps are
/// left as the list has ids.
#[inline(always)]
fn listed(id: u32, count: u32, get: fn(usize) -> u32) -> bool {
    let count = count as usize;
    let mut index = 0;
    while index < MAX_FILTER_IDS && index < count {
        if get(index) == id {
            return true;
        }
        index += 1;
    }
    false
}

/// The only global that changes while programs run, and so all there is in its section. 0: nothing is counted
/// or shipped. Attaching takes milliseconds an event, and detaching seconds in all; with this, all events are
/// measured over the same time. Otherwise the epoch, see `ExitStats::extremes`.
#[unsafe(no_mangle)]
static mut EPOCH: u64 = 0;

/// The current epoch; 0 when the measurement has not begun, or has ended.
#[inline(always)]
pub(crate) fn epoch() -> u64 {
    // SAFETY: a plain number, which user space writes whole. Volatile, as the compiler sees nobody write it.
    unsafe { read_volatile(&raw const EPOCH) }
}

/// Has the measurement begun, and not ended?
#[inline(always)]
pub(crate) fn running() -> bool {
    epoch() != 0
}

/// Does a filter by vCPU hold?
#[inline(always)]
pub(crate) fn by_vcpu() -> bool {
    settings::vcpu_count() != 0
}

/// Is this process and thread asked for?
#[inline(always)]
pub(crate) fn passes_task(task: Task) -> bool {
    let tgids = settings::tgid_count();
    let tids = settings::tid_count();
    (tgids == 0 || listed(task.tgid, tgids, settings::tgid))
        && (tids == 0 || listed(task.tid, tids, settings::tid))
}

/// Is this vCPU asked for?
#[inline(always)]
pub(crate) fn passes_vcpu(vcpu: u32) -> bool {
    let vcpus = settings::vcpu_count();
    vcpus == 0 || listed(vcpu, vcpus, settings::vcpu)
}

/// Has the slot's event one of the values asked for, if any are?
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
pub(crate) fn passes_value<const SLOT: usize>(ctx: &TracePointContext) -> bool {
    !settings::has_value(SLOT)
        || listed(
            field::read(ctx, FieldId::SlotValue(SLOT)) as u32,
            settings::value_count(),
            settings::value,
        )
}

/// The vCPU a slot's event belongs to: from its own record where it says so, otherwise what is
/// known of the thread.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
pub(crate) fn vcpu_of<const SLOT: usize>(ctx: &TracePointContext, task: Task) -> u32 {
    match field::read(ctx, FieldId::SlotVcpu(SLOT)) as u32 {
        VCPU_UNKNOWN => threads::find(task).map_or(VCPU_UNKNOWN, |place| place.thread.vcpu),
        vcpu => vcpu,
    }
}

/// The vCPU's thread that a slot's event is about, if there is one and it is asked for: the thread in which the event
/// happens, or the other one it names. Threads that are not asked for are not known.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
pub(crate) fn vcpu_thread_of<const SLOT: usize>(
    ctx: &TracePointContext,
    task: Task,
) -> Option<Task> {
    if let Some(place) = threads::find(task)
        && passes_vcpu(place.thread.vcpu)
    {
        return Some(task);
    }
    let other = field::read(ctx, FieldId::SlotOther(SLOT)) as u32;
    // SAFETY: a copy of a number.
    let index = *unsafe { THREAD_OF.get(other) }?;
    let thread = threads::at(index)?.thread;
    (thread.task != 0 && passes_vcpu(thread.vcpu)).then(|| Task::of(thread.task))
}
