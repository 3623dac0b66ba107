//! Which VMs, vCPUs, threads and exit reasons are selected. A selection is a rule: it is applied to each process
//! when its first event is seen, so VMs that start later are selected as well.

use std::collections::HashMap;

use globset::GlobMatcher;
use kvm_ebpf_common::Selection as SelectsIds;

use crate::model::{capacity::MOST_NAMED, pid_of};

/// The ids that the eBPF programs can select by. An empty list selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Processes.
    pub tgids: Vec<u32>,
    /// Threads.
    pub tids: Vec<u32>,
    /// vCPU indices.
    pub vcpus: Vec<u32>,
    /// Of `kvm_exit`, only these reasons (by number, unmasked). `None` selects all, also those that have
    /// no name.
    pub reasons: Option<Vec<u32>>,
}

impl Filter {
    /// Does it select by thread, process or vCPU?
    pub(crate) fn is_by_task(&self) -> bool {
        !(self.tgids.is_empty() && self.tids.is_empty() && self.vcpus.is_empty())
    }
}

/// What is selected. A process is selected if it is listed or if its VM's name matches.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// By number. The processes listed are selected together with those whose name matches `vms`.
    pub filter: Filter,
    /// By the VM's name.
    pub vms: Vec<GlobMatcher>,
}

impl Selection {
    /// Does it depend on the process?
    #[must_use]
    pub fn is_by_process(&self) -> bool {
        !(self.filter.tgids.is_empty() && self.vms.is_empty())
    }

    /// Does it select by VM name?
    #[must_use]
    pub fn is_by_name(&self) -> bool {
        !self.vms.is_empty()
    }

    /// What the eBPF programs can select by themselves: all but names.
    #[must_use]
    pub fn kernel_filter(&self) -> Filter {
        Filter {
            // With names, a process that is not listed may still be selected.
            tgids: if self.is_by_name() {
                Vec::new()
            } else {
                self.filter.tgids.clone()
            },
            ..self.filter.clone()
        }
    }

    /// What is left to be selected of the events that the eBPF programs send after they have applied
    /// [`Selection::kernel_filter`]: names, and the processes listed beside them. Only the programs see all events that
    /// say which vCPU a thread runs.
    #[must_use]
    pub fn after_kernel_filter(&self) -> Self {
        if !self.is_by_name() {
            return Self::default();
        }
        Self {
            filter: Filter {
                tgids: self.filter.tgids.clone(),
                ..Filter::default()
            },
            vms: self.vms.clone(),
        }
    }

    /// Does a process match, given its VM's name?
    #[must_use]
    pub fn matches_process(&self, tgid: u32, vm_name: &str) -> bool {
        !self.is_by_process()
            || self.filter.tgids.contains(&pid_of(tgid))
            || self.vms.iter().any(|it| it.is_match(vm_name))
    }
}

/// A selection, applied to a stream: it remembers what was decided about each process.
#[derive(Debug, Default)]
pub struct Selector {
    selection: Selection,
    /// Per process, what was decided.
    processes: HashMap<u32, ProcessDecision>,
    /// Has anything been decided against that nobody has been told yet?
    has_unreported: bool,
    last_process: Option<(u32, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct ProcessDecision {
    is_selected: bool,
    /// [`Selector::newly_skipped`] has returned it, or need not.
    is_reported: bool,
}

impl Selector {
    /// Applies a selection.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            ..Self::default()
        }
    }

    /// The selection that is applied.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Is a process selected? `None` if that depends on its VM's name, which is not known. `vm_name` finds it.
    #[inline]
    pub fn process(&mut self, tgid: u32, vm_name: &dyn Fn(u32) -> Option<String>) -> Option<bool> {
        if !self.selection.is_by_process() {
            return Some(true);
        }
        match self.last_process {
            Some((last, is_selected)) if last == tgid => Some(is_selected),
            _ => self.other_process(tgid, vm_name),
        }
    }

    #[cold]
    fn other_process(
        &mut self,
        tgid: u32,
        vm_name: &dyn Fn(u32) -> Option<String>,
    ) -> Option<bool> {
        let selection = &self.selection;
        let known = self.processes.get(&tgid).map(|it| it.is_selected);
        let known = known.or_else(|| {
            if !selection.is_by_name() || selection.filter.tgids.contains(&pid_of(tgid)) {
                return Some(selection.matches_process(tgid, ""));
            }
            // Without a name nothing is decided yet: the name may become known later.
            vm_name(tgid).map(|name| selection.matches_process(tgid, &name))
        })?;
        // What finds no room is decided again for the next event; that is the same, as long as the name is known.
        if self.processes.len() < MOST_NAMED {
            let decision = ProcessDecision {
                is_selected: known,
                is_reported: known || !selection.is_by_name(),
            };
            self.has_unreported |= !decision.is_reported;
            self.processes.entry(tgid).or_insert(decision);
        }
        self.last_process = Some((tgid, known));
        Some(known)
    }

    /// The processes that have been decided against since the last call.
    pub fn newly_skipped(&mut self) -> Vec<u32> {
        if !std::mem::take(&mut self.has_unreported) {
            return Vec::new();
        }
        let new = self.processes.iter_mut().filter(|it| !it.1.is_reported);
        new.map(|(tgid, decision)| {
            decision.is_reported = true;
            *tgid
        })
        .collect()
    }

    /// Forgets what was decided about a process: it has ended, and its number may be another's.
    pub fn forget_process(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
        self.last_process = None;
    }

    /// Is an exit reason selected? Reasons that are no u32 never are, if any are listed.
    #[must_use]
    pub fn selects_reason(&self, reason: impl FnOnce() -> Option<u32>) -> bool {
        let reasons = self.selection.filter.reasons.as_ref();
        reasons.is_none_or(|it| reason().is_some_and(|code| it.contains(&code)))
    }
}

/// The ids of a selection for [`decide`](kvm_ebpf_common::decide), after the processes in question have been decided about.
#[derive(Debug)]
pub(super) struct DecidedIds<'a> {
    pub(super) filter: &'a Filter,
    /// Processes, and whether each is selected.
    pub(super) processes: [(u32, bool); 2],
}

impl SelectsIds for DecidedIds<'_> {
    #[inline]
    fn process(&self, tgid: u32) -> bool {
        self.processes
            .iter()
            .any(|(of, is_selected)| *of == tgid && *is_selected)
    }

    #[inline]
    fn thread(&self, tid: u32) -> bool {
        self.filter.tids.is_empty() || self.filter.tids.contains(&tid)
    }

    #[inline]
    fn has_vcpus(&self) -> bool {
        !self.filter.vcpus.is_empty()
    }

    #[inline]
    fn vcpu(&self, vcpu: u32) -> bool {
        self.filter.vcpus.is_empty() || self.filter.vcpus.contains(&vcpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_about_a_process_is_remembered_until_it_is_forgotten() {
        let vms = ["web-*"].map(|it| globset::Glob::new(it).unwrap().compile_matcher());
        let mut selector = Selector::new(Selection {
            vms: vms.to_vec(),
            ..Selection::default()
        });
        let web = |_| Some("web-1".to_owned());
        assert_eq!(selector.process(7, &web), Some(true));
        // Its name is not to be found any more.
        assert_eq!(selector.process(7, &|_| None), Some(true));
        selector.forget_process(7);
        assert_eq!(selector.process(7, &|_| Some("db".into())), Some(false));
    }

    #[test]
    fn a_skipped_process_is_reported_once_and_again_when_its_number_is_used_again() {
        let web = globset::Glob::new("web-*").unwrap().compile_matcher();
        let mut selector = Selector::new(Selection {
            vms: vec![web],
            ..Selection::default()
        });
        let db = |_| Some("db".to_owned());
        for _ in 0..3 {
            assert_eq!(selector.process(7, &db), Some(false));
            selector.process(8, &|_| Some("web-1".to_owned()));
        }
        assert_eq!(selector.newly_skipped(), [7]);
        assert!(selector.newly_skipped().is_empty());
        // A stream of processes that come and go, and nobody who asks.
        for _ in 0..1000 {
            selector.forget_process(7);
            assert_eq!(selector.process(7, &db), Some(false));
        }
        assert_eq!(selector.newly_skipped(), [7]);
    }

    #[test]
    fn what_is_remembered_of_processes_is_bounded_and_all_are_decided() {
        let web = globset::Glob::new("web-*").unwrap().compile_matcher();
        let mut selector = Selector::new(Selection {
            vms: vec![web],
            ..Selection::default()
        });
        let name = |tgid| Some(format!("{}-{tgid}", ["db", "web"][tgid as usize % 2]));
        for tgid in 0..u32::try_from(MOST_NAMED).unwrap() + 1000 {
            assert_eq!(selector.process(tgid, &name), Some(tgid % 2 == 1));
        }
        assert_eq!(selector.processes.len(), MOST_NAMED);
    }
}
