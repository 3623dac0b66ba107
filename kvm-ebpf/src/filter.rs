//! Decides whether an event is selected. Programs do this before anything else.

use aya_ebpf::programs::TracePointContext;
use kvm_ebpf_common::{
    FieldId, MAX_FILTER_IDS, Selection, VCPU_UNKNOWN, VcpuThreadId, is_task_selected,
    select_vcpu_thread,
};

use crate::{
    field,
    maps::{SKIPPED_PROCESSES, VCPU_THREAD_BY_TID},
    settings,
    task::Task,
    thread_entry, vcpu_threads,
};

/// Returns whether a list contains an id. The verifier knows the count as a constant and unrolls the
/// loop.
#[inline(always)]
fn list_contains(id: u32, count: u32, element: fn(usize) -> u32) -> bool {
    let count = count as usize;
    let mut index = 0;
    while index < MAX_FILTER_IDS && index < count {
        if element(index) == id {
            return true;
        }
        index += 1;
    }
    false
}

/// The user's selection, from the read-only settings.
pub(crate) struct UserSelection;

impl Selection for UserSelection {
    #[inline(always)]
    fn selects_process(&self, tgid: u32) -> bool {
        let tgids = settings::tgid_count();
        (tgids == 0 || list_contains(tgid, tgids, settings::tgid))
            // SAFETY: the value is not used.
            && !(settings::skip_processes() && unsafe { SKIPPED_PROCESSES.get(tgid) }.is_some())
    }

    #[inline(always)]
    fn selects_thread(&self, tid: u32) -> bool {
        let tids = settings::tid_count();
        tids == 0 || list_contains(tid, tids, settings::tid)
    }

    #[inline(always)]
    fn lists_vcpus(&self) -> bool {
        settings::vcpu_count() != 0
    }

    #[inline(always)]
    fn selects_vcpu(&self, vcpu: u32) -> bool {
        let vcpus = settings::vcpu_count();
        vcpus == 0 || list_contains(vcpu, vcpus, settings::vcpu)
    }
}

/// Returns whether the user selected vCPUs.
#[inline(always)]
pub(crate) fn lists_vcpus() -> bool {
    UserSelection.lists_vcpus()
}

/// Returns whether the process and thread are selected.
#[inline(always)]
pub(crate) fn selects_task(task: Task) -> bool {
    is_task_selected(&UserSelection, task.tgid, task.tid)
}

/// Returns whether the vCPU that the current thread runs is known and selected. True if the user selected no vCPUs.
#[inline(always)]
pub(crate) fn selects_vcpu_of_thread(task: Task) -> bool {
    !lists_vcpus()
        || vcpu_threads::find_alive(task).is_some_and(|it| UserSelection.selects_vcpu(it.vcpu))
}

/// Returns whether the event of a slot has one of the selected values. True if the slot does not check
/// values.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
pub(crate) fn selects_value<const SLOT: usize>(ctx: &TracePointContext) -> bool {
    !settings::checks_value(SLOT)
        || list_contains(
            field::read(ctx, FieldId::SlotValue(SLOT)) as u32,
            settings::value_count(),
            settings::value,
        )
}

/// Returns the vCPU of an event: `recorded` from the event's record, or else the last known vCPU of the
/// thread, or else the one in the thread's name if no event has it.
#[inline(always)]
pub(crate) fn vcpu_of_event(recorded: u32, task: Task) -> u32 {
    match recorded {
        VCPU_UNKNOWN => match vcpu_threads::find_alive(task) {
            Some(entry) => entry.vcpu,
            None if settings::names_vcpus() => vcpu_threads::vcpu_in_current_comm(),
            None => VCPU_UNKNOWN,
        },
        vcpu => vcpu,
    }
}

/// Returns the selected vCPU thread to which an event of another subsystem than KVM belongs.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the field has 4 bytes")]
pub(crate) fn vcpu_thread_of_event<const SLOT: usize>(
    ctx: &TracePointContext,
    task: Task,
) -> Option<Task> {
    let named = || {
        let tid = field::read(ctx, FieldId::SlotOtherTid(SLOT)) as u32;
        // SAFETY: the value is copied.
        let index = *unsafe { VCPU_THREAD_BY_TID.get(tid) }?;
        let entry = thread_entry::at(index)?;
        (entry.task != 0 && entry.ended == 0).then(|| (Task::from_pid_tgid(entry.task), entry.vcpu))
    };
    let current = vcpu_threads::find_alive(task).map(|entry| (task, entry.vcpu));
    let selected = select_vcpu_thread(&UserSelection, current, named, |(task, vcpu)| {
        VcpuThreadId {
            tgid: task.tgid,
            tid: task.tid,
            vcpu: *vcpu,
        }
    });
    selected.map(|(task, _)| task)
}
