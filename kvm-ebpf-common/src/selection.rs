//! Selection of events by process, thread and vCPU.
//!
//! The eBPF programs select events as they happen. User space selects events of recordings. Both use these functions.

use crate::VCPU_UNKNOWN;

/// The selected processes, threads and vCPUs. An empty list selects all.
pub trait Selection {
    /// Returns whether a process is selected.
    fn selects_process(&self, tgid: u32) -> bool;

    /// Returns whether a thread is selected.
    fn selects_thread(&self, tid: u32) -> bool;

    /// Returns whether the list of vCPUs is not empty.
    fn lists_vcpus(&self) -> bool;

    /// Returns whether a vCPU is selected. True if the list is empty.
    fn selects_vcpu(&self, vcpu: u32) -> bool;
}

/// Result of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The event is selected.
    Selected,
    /// The event is not selected.
    Skipped,
    /// vCPUs are selected, and the vCPU of the event is unknown.
    VcpuUnknown,
}

/// A vCPU thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuThreadId {
    /// Process id of the VMM.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Index of the vCPU, or [`VCPU_UNKNOWN`].
    pub vcpu: u32,
}

/// Decides whether an event of a thread is selected.
///
/// `vcpu` returns the vCPU of the event, or [`VCPU_UNKNOWN`]. It is called only if vCPUs are selected and the thread is
/// selected.
#[inline(always)]
#[must_use]
pub fn decide(
    selection: &impl Selection,
    tgid: u32,
    tid: u32,
    vcpu: impl FnOnce() -> u32,
) -> Decision {
    if is_task_selected(selection, tgid, tid) {
        decide_vcpu(selection, vcpu)
    } else {
        Decision::Skipped
    }
}

/// First step of [`decide`]: returns whether a process and thread are selected.
#[inline(always)]
#[must_use]
pub fn is_task_selected(selection: &impl Selection, tgid: u32, tid: u32) -> bool {
    selection.selects_process(tgid) && selection.selects_thread(tid)
}

/// Second step of [`decide`], for an event of a selected thread.
#[inline(always)]
#[must_use]
pub fn decide_vcpu(selection: &impl Selection, vcpu: impl FnOnce() -> u32) -> Decision {
    if !selection.lists_vcpus() {
        return Decision::Selected;
    }
    match vcpu() {
        VCPU_UNKNOWN => Decision::VcpuUnknown,
        vcpu if selection.selects_vcpu(vcpu) => Decision::Selected,
        _ => Decision::Skipped,
    }
}

/// Returns the vCPU thread to which an event of another subsystem than KVM belongs, for example `sched:sched_switch`.
///
/// `current` is the thread in which the event occurred. `named` returns the other thread that the event names. Each is
/// `None` if it is not a known vCPU thread. The event belongs to the first of the two that is selected, and is not
/// selected if neither is. If vCPUs are selected, a thread with an unknown vCPU is not selected.
#[inline(always)]
pub fn select_vcpu_thread<T>(
    selection: &impl Selection,
    current: Option<T>,
    named: impl FnOnce() -> Option<T>,
    id: impl Fn(&T) -> VcpuThreadId,
) -> Option<T> {
    let is_selected = |thread: &T| {
        let VcpuThreadId { tgid, tid, vcpu } = id(thread);
        decide(selection, tgid, tid, || vcpu) == Decision::Selected
    };
    if let Some(thread) = current
        && is_selected(&thread)
    {
        return Some(thread);
    }
    named().filter(is_selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lists {
        tgids: &'static [u32],
        tids: &'static [u32],
        vcpus: &'static [u32],
    }

    fn contains(list: &[u32], id: u32) -> bool {
        list.is_empty() || list.contains(&id)
    }

    impl Selection for Lists {
        fn selects_process(&self, tgid: u32) -> bool {
            contains(self.tgids, tgid)
        }
        fn selects_thread(&self, tid: u32) -> bool {
            contains(self.tids, tid)
        }
        fn lists_vcpus(&self) -> bool {
            !self.vcpus.is_empty()
        }
        fn selects_vcpu(&self, vcpu: u32) -> bool {
            contains(self.vcpus, vcpu)
        }
    }

    fn thread(tgid: u32, tid: u32, vcpu: u32) -> VcpuThreadId {
        VcpuThreadId { tgid, tid, vcpu }
    }

    #[test]
    fn an_empty_selection_selects_all_without_looking_up_the_vcpu() {
        let decision = decide(&Lists::default(), 1, 2, || panic!("the vCPU is not needed"));
        assert_eq!(decision, Decision::Selected);
    }

    #[test]
    fn process_and_thread_must_both_be_selected() {
        let lists = Lists {
            tgids: &[1],
            tids: &[2],
            vcpus: &[0],
        };
        let no_vcpu = || panic!("the thread is not selected");
        assert_eq!(decide(&lists, 1, 2, || 0), Decision::Selected);
        assert_eq!(decide(&lists, 9, 2, no_vcpu), Decision::Skipped);
        assert_eq!(decide(&lists, 1, 9, no_vcpu), Decision::Skipped);
    }

    #[test]
    fn a_vcpu_is_selected_skipped_or_unknown() {
        let lists = Lists {
            vcpus: &[0, 3],
            ..Lists::default()
        };
        assert_eq!(decide(&lists, 1, 2, || 3), Decision::Selected);
        assert_eq!(decide(&lists, 1, 2, || 1), Decision::Skipped);
        assert_eq!(decide(&lists, 1, 2, || VCPU_UNKNOWN), Decision::VcpuUnknown);
    }

    fn subject_of(
        lists: &Lists,
        current: Option<VcpuThreadId>,
        named: Option<VcpuThreadId>,
    ) -> Option<VcpuThreadId> {
        select_vcpu_thread(lists, current, || named, |thread| *thread)
    }

    #[test]
    fn an_event_of_another_subsystem_belongs_to_the_current_thread_first() {
        let all = Lists::default();
        let (current, named) = (Some(thread(1, 2, 0)), Some(thread(3, 4, VCPU_UNKNOWN)));
        assert_eq!(subject_of(&all, current, named), current);
        assert_eq!(subject_of(&all, None, named), named);
        assert_eq!(subject_of(&all, None, None), None);
    }

    #[test]
    fn an_event_of_another_subsystem_belongs_only_to_a_selected_thread() {
        let (current, named) = (Some(thread(1, 2, 0)), Some(thread(3, 4, 1)));
        let second = Lists {
            vcpus: &[1],
            ..Lists::default()
        };
        assert_eq!(subject_of(&second, current, named), named);
        let third = Lists {
            tgids: &[3],
            ..Lists::default()
        };
        assert_eq!(subject_of(&third, current, named), named);
        let none = Lists {
            vcpus: &[7],
            ..Lists::default()
        };
        assert_eq!(subject_of(&none, current, named), None);
        let unknown = Some(thread(1, 2, VCPU_UNKNOWN));
        assert_eq!(subject_of(&second, unknown, None), None);
    }
}
