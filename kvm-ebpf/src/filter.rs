//! Whether an event is selected, decided before anything else is done.

use core::ptr::read_volatile;

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::{
    FieldId, MAX_FILTER_IDS, Selection, VCPU_UNKNOWN, VcpuThreadId, is_task_selected,
    select_vcpu_thread,
};

use crate::{
    field,
    maps::{SKIPPED_PROCESSES, THREAD_OF},
    settings,
    task::Task,
    thread_entry, threads,
};

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

/// What the user selected, as the read-only globals have it.
pub(crate) struct Globals;

impl Selection for Globals {
    #[inline(always)]
    fn selects_process(&self, tgid: u32) -> bool {
        let tgids = settings::tgid_count();
        (tgids == 0 || listed(tgid, tgids, settings::tgid))
            // SAFETY: only whether the key is there is of interest.
            && !(settings::skip_processes() && unsafe { SKIPPED_PROCESSES.get(tgid) }.is_some())
    }

    #[inline(always)]
    fn selects_thread(&self, tid: u32) -> bool {
        let tids = settings::tid_count();
        tids == 0 || listed(tid, tids, settings::tid)
    }

    #[inline(always)]
    fn lists_vcpus(&self) -> bool {
        settings::vcpu_count() != 0
    }

    #[inline(always)]
    fn selects_vcpu(&self, vcpu: u32) -> bool {
        let vcpus = settings::vcpu_count();
        vcpus == 0 || listed(vcpu, vcpus, settings::vcpu)
    }
}

/// Does the selection list vCPUs?
#[inline(always)]
pub(crate) fn has_vcpus() -> bool {
    Globals.lists_vcpus()
}

/// Are this process and this thread selected?
#[inline(always)]
pub(crate) fn selects_task(task: Task) -> bool {
    is_task_selected(&Globals, task.tgid, task.tid)
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

/// The vCPU of an event: from its own record where that has it, otherwise the one that the thread is known to run.
#[inline(always)]
pub(crate) fn vcpu_of(recorded: u32, task: Task) -> u32 {
    match recorded {
        VCPU_UNKNOWN => threads::find_living(task).map_or(VCPU_UNKNOWN, |entry| entry.vcpu),
        vcpu => vcpu,
    }
}

/// The selected vCPU thread that a slot's event is about, when the event is not KVM's.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
pub(crate) fn subject_of<const SLOT: usize>(ctx: &TracePointContext, task: Task) -> Option<Task> {
    let named = || {
        let tid = field::read(ctx, FieldId::SlotOtherTid(SLOT)) as u32;
        // SAFETY: a copy of a number.
        let index = *unsafe { THREAD_OF.get(tid) }?;
        let entry = thread_entry::at(index)?;
        (entry.task != 0 && entry.ended == 0).then(|| (Task::of(entry.task), entry.vcpu))
    };
    let current = threads::find_living(task).map(|entry| (task, entry.vcpu));
    let subject = select_vcpu_thread(&Globals, current, named, |(task, vcpu)| VcpuThreadId {
        tgid: task.tgid,
        tid: task.tid,
        vcpu: *vcpu,
    });
    subject.map(|(task, _)| task)
}
