//! Which events are selected: by process, by thread and by vCPU.
//!
//! The eBPF programs decide as events happen, user space decides when it reads a recording. Both use these functions, so
//! that the rule exists once.

use crate::VCPU_UNKNOWN;

/// The processes, threads and vCPUs that the user selected.
///
/// A list that is empty selects all.
pub trait Selection {
    /// Is this process selected?
    fn selects_process(&self, tgid: u32) -> bool;

    /// Is this thread selected?
    fn selects_thread(&self, tid: u32) -> bool;

    /// Does the selection list vCPUs?
    fn lists_vcpus(&self) -> bool;

    /// Is this vCPU selected? Every vCPU is when the selection lists none.
    fn selects_vcpu(&self, vcpu: u32) -> bool;
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The event is selected.
    Selected,
    /// The event is not selected.
    Skipped,
    /// The selection lists vCPUs, and the event's vCPU is not known.
    VcpuUnknown,
}

/// A vCPU thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuThreadId {
    /// The process; for a VM, its VMM.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// The vCPU that it runs, or [`VCPU_UNKNOWN`].
    pub vcpu: u32,
}

/// Decides about an event that happened in a thread.
///
/// `vcpu` gives the event's vCPU, or [`VCPU_UNKNOWN`]. It is called only when the selection lists vCPUs and the thread
/// is selected.
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

/// The first half of [`decide`]: are this process and this thread selected?
#[inline(always)]
#[must_use]
pub fn is_task_selected(selection: &impl Selection, tgid: u32, tid: u32) -> bool {
    selection.selects_process(tgid) && selection.selects_thread(tid)
}

/// The second half of [`decide`], for an event of a selected thread.
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

/// Finds the vCPU thread that an event of another system than KVM is about, as `sched:sched_switch`.
///
/// `current` is the thread in which the event happened, `named` finds the other thread that the event names; each is
/// `None` when it is not known as a vCPU thread. The event is about the first of the two that is selected. It is not
/// selected when neither is. A thread whose vCPU is not known is not selected when the selection lists vCPUs.
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

    fn holds(list: &[u32], id: u32) -> bool {
        list.is_empty() || list.contains(&id)
    }

    impl Selection for Lists {
        fn selects_process(&self, tgid: u32) -> bool {
            holds(self.tgids, tgid)
        }
        fn selects_thread(&self, tid: u32) -> bool {
            holds(self.tids, tid)
        }
        fn lists_vcpus(&self) -> bool {
            !self.vcpus.is_empty()
        }
        fn selects_vcpu(&self, vcpu: u32) -> bool {
            holds(self.vcpus, vcpu)
        }
    }

    fn thread(tgid: u32, tid: u32, vcpu: u32) -> VcpuThreadId {
        VcpuThreadId { tgid, tid, vcpu }
    }

    #[test]
    fn an_empty_selection_selects_all_and_does_not_ask_for_the_vcpu() {
        let decision = decide(&Lists::default(), 1, 2, || panic!("nobody needs it"));
        assert_eq!(decision, Decision::Selected);
    }

    #[test]
    fn process_and_thread_both_have_to_be_selected() {
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
    fn an_event_of_another_system_is_about_the_current_thread_first() {
        let all = Lists::default();
        let (current, named) = (Some(thread(1, 2, 0)), Some(thread(3, 4, VCPU_UNKNOWN)));
        assert_eq!(subject_of(&all, current, named), current);
        assert_eq!(subject_of(&all, None, named), named);
        assert_eq!(subject_of(&all, None, None), None);
    }

    #[test]
    fn an_event_of_another_system_is_about_a_selected_thread_only() {
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
