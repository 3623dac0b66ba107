//! Selection of VMs, vCPUs, threads and exit reasons. A selection is a rule that is applied to each
//! process at its first event, so it also selects VMs that start later.

use std::collections::HashMap;

use globset::GlobMatcher;
use kvm_ebpf_common::Selection as IdSelection;

use crate::model::{VmName, VmUuid, capacity::MAX_KNOWN_TASKS, pid_of};

/// The ids by which the eBPF programs can select. An empty list selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Process ids.
    pub tgids: Vec<u32>,
    /// Thread ids.
    pub tids: Vec<u32>,
    /// vCPU indices.
    pub vcpus: Vec<u32>,
    /// Exit reasons, by the number in `kvm_exit` including its flag bits. `None` selects all exits,
    /// also those with an unnamed reason.
    pub reasons: Option<Vec<u32>>,
}

impl Filter {
    /// Returns whether a vCPU is selected among those of a selected process.
    #[must_use]
    pub fn matches_vcpu(&self, tid: u32, vcpu: u32) -> bool {
        let matches = |ids: &[u32], id| ids.is_empty() || ids.contains(&id);
        matches(&self.tids, tid) && matches(&self.vcpus, vcpu)
    }

    /// Returns whether the filter selects by thread, process or vCPU.
    pub(crate) fn is_by_task(&self) -> bool {
        !(self.tgids.is_empty() && self.tids.is_empty() && self.vcpus.is_empty())
    }
}

/// A selection of events. A process is selected if its id is listed, or if the name or UUID of its VM
/// matches.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The selection by id. Its processes are selected in addition to those with a VM name that matches
    /// `vms`.
    pub filter: Filter,
    /// Patterns for the VM, as in [`matches_vm`].
    pub vms: Vec<GlobMatcher>,
}

impl Selection {
    /// Returns whether the selection is by process or by VM name.
    #[must_use]
    pub fn is_by_process(&self) -> bool {
        !(self.filter.tgids.is_empty() && self.vms.is_empty())
    }

    /// Returns whether the selection is by VM name.
    #[must_use]
    pub fn is_by_name(&self) -> bool {
        !self.vms.is_empty()
    }

    /// Returns the part of the selection that the eBPF programs apply: everything except names.
    #[must_use]
    pub fn kernel_filter(&self) -> Filter {
        Filter {
            // A process that is not listed may be selected by its name.
            tgids: if self.is_by_name() {
                Vec::new()
            } else {
                self.filter.tgids.clone()
            },
            ..self.filter.clone()
        }
    }

    /// Returns the part of the selection that remains after the eBPF programs have applied
    /// [`Selection::kernel_filter`]: names, and the processes that are listed in addition.
    ///
    /// vCPUs are selected by the programs only, because only the programs see all events that tell
    /// which vCPU a thread runs.
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

    /// Returns whether a process is selected, given its VM.
    #[must_use]
    pub fn matches_process(&self, tgid: u32, vm: &VmName) -> bool {
        !self.is_by_process()
            || self.filter.tgids.contains(&pid_of(tgid))
            || self.vms.iter().any(|it| matches_vm(it, vm))
    }
}

/// Returns whether a pattern selects a VM: it is a glob that matches the VM's name, or it is the VM's UUID.
#[must_use]
pub fn matches_vm(pattern: &GlobMatcher, vm: &VmName) -> bool {
    let is_uuid = |uuid| VmUuid::parse(pattern.glob().glob()) == Some(uuid);
    pattern.is_match(&vm.name) || vm.uuid.is_some_and(is_uuid)
}

/// Applies a selection to a stream of events, and stores the decision about each process.
#[derive(Debug, Default)]
pub struct Selector {
    selection: Selection,
    /// The decision about each process.
    processes: HashMap<u32, ProcessDecision>,
    /// Whether there is a skipped process that [`Selector::take_newly_skipped`] has not returned
    /// yet.
    has_unreported: bool,
    last_process: Option<(u32, bool)>,
}

#[derive(Debug, Clone, Copy)]
struct ProcessDecision {
    is_selected: bool,
    /// Whether [`Selector::take_newly_skipped`] has returned the process, or need not return it.
    is_reported: bool,
}

impl Selector {
    /// Creates a selector without any decisions.
    #[must_use]
    pub fn new(selection: Selection) -> Self {
        Self {
            selection,
            ..Self::default()
        }
    }

    /// Returns the selection that is applied.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Decides whether a process is selected. `None` if that depends on the name of its VM, and
    /// `vm_name` does not know the name.
    #[inline]
    pub fn decide_process(
        &mut self,
        tgid: u32,
        vm_name: &dyn Fn(u32) -> Option<VmName>,
    ) -> Option<bool> {
        if !self.selection.is_by_process() {
            return Some(true);
        }
        match self.last_process {
            Some((last, is_selected)) if last == tgid => Some(is_selected),
            _ => self.look_up_process(tgid, vm_name),
        }
    }

    #[cold]
    fn look_up_process(
        &mut self,
        tgid: u32,
        vm_name: &dyn Fn(u32) -> Option<VmName>,
    ) -> Option<bool> {
        let selection = &self.selection;
        let is_selected = self.processes.get(&tgid).map(|it| it.is_selected);
        let is_selected = is_selected.or_else(|| {
            if !selection.is_by_name() || selection.filter.tgids.contains(&pid_of(tgid)) {
                return Some(selection.matches_process(tgid, &VmName::default()));
            }
            // Without a name there is no decision yet: the name may become known later.
            vm_name(tgid).map(|name| selection.matches_process(tgid, &name))
        })?;
        // If the table is full, the process is decided again at its next event. The result is the
        // same as long as its name is known.
        if self.processes.len() < MAX_KNOWN_TASKS {
            let decision = ProcessDecision {
                is_selected,
                is_reported: is_selected || !selection.is_by_name(),
            };
            self.has_unreported |= !decision.is_reported;
            self.processes.entry(tgid).or_insert(decision);
        }
        self.last_process = Some((tgid, is_selected));
        Some(is_selected)
    }

    /// Returns the processes that were decided not to be selected since the last call. Only a
    /// selection by name needs this.
    pub fn take_newly_skipped(&mut self) -> Vec<u32> {
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

    /// Removes the decision about a process that has ended: the kernel may reuse its number.
    pub fn remove_process(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
        self.last_process = None;
    }

    /// Returns whether an exit reason is selected. `None` stands for a reason that is not a `u32`,
    /// which no list contains.
    #[must_use]
    pub fn is_reason_selected(&self, reason: impl FnOnce() -> Option<u32>) -> bool {
        let reasons = self.selection.filter.reasons.as_ref();
        reasons.is_none_or(|it| reason().is_some_and(|code| it.contains(&code)))
    }
}

/// Selection by id for [`decide`](kvm_ebpf_common::decide), with decisions that were already made
/// about processes.
#[derive(Debug)]
pub(super) struct SelectedIds<'a> {
    pub(super) filter: &'a Filter,
    /// Processes with their decisions.
    pub(super) processes: [(u32, bool); 2],
}

impl IdSelection for SelectedIds<'_> {
    #[inline]
    fn selects_process(&self, tgid: u32) -> bool {
        self.processes
            .iter()
            .any(|(process, is_selected)| *process == tgid && *is_selected)
    }

    #[inline]
    fn selects_thread(&self, tid: u32) -> bool {
        self.filter.tids.is_empty() || self.filter.tids.contains(&tid)
    }

    #[inline]
    fn lists_vcpus(&self) -> bool {
        !self.filter.vcpus.is_empty()
    }

    #[inline]
    fn selects_vcpu(&self, vcpu: u32) -> bool {
        self.filter.vcpus.is_empty() || self.filter.vcpus.contains(&vcpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_about_a_process_holds_until_it_is_removed() {
        let vms = ["web-*"].map(|it| globset::Glob::new(it).unwrap().compile_matcher());
        let mut selector = Selector::new(Selection {
            vms: vms.to_vec(),
            ..Selection::default()
        });
        let web = |_| Some("web-1".into());
        assert_eq!(selector.decide_process(7, &web), Some(true));
        // Its name can no longer be found.
        assert_eq!(selector.decide_process(7, &|_| None), Some(true));
        selector.remove_process(7);
        assert_eq!(
            selector.decide_process(7, &|_| Some("db".into())),
            Some(false)
        );
    }

    #[test]
    fn a_vm_is_selected_by_its_whole_uuid() {
        const UUID: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";
        let vm = VmName {
            name: "web".to_owned(),
            uuid: VmUuid::parse(UUID),
        };
        let matches = |pattern: &str, vm: &VmName| {
            let glob = globset::Glob::new(pattern).unwrap();
            matches_vm(&glob.compile_matcher(), vm)
        };
        assert!(matches(UUID, &vm) && matches(&UUID.to_uppercase(), &vm));
        assert!(matches("w*", &vm));
        assert!(!matches("1b4e28ba-*", &vm));
        assert!(!matches(UUID, &"web".into()));
        // A VM that is named by its UUID.
        assert!(matches(UUID, &UUID.into()));
    }

    #[test]
    fn skipped_process_is_reported_once_and_again_when_its_number_is_reused() {
        let web = globset::Glob::new("web-*").unwrap().compile_matcher();
        let mut selector = Selector::new(Selection {
            vms: vec![web],
            ..Selection::default()
        });
        let db = |_| Some("db".into());
        for _ in 0..3 {
            assert_eq!(selector.decide_process(7, &db), Some(false));
            selector.decide_process(8, &|_| Some("web-1".into()));
        }
        assert_eq!(selector.take_newly_skipped(), [7]);
        assert!(selector.take_newly_skipped().is_empty());
        // The table stays small if processes come and go and nobody asks for the skipped ones.
        for _ in 0..1000 {
            selector.remove_process(7);
            assert_eq!(selector.decide_process(7, &db), Some(false));
        }
        assert_eq!(selector.take_newly_skipped(), [7]);
    }

    #[test]
    fn stored_decisions_are_bounded_and_all_processes_are_decided() {
        let web = globset::Glob::new("web-*").unwrap().compile_matcher();
        let mut selector = Selector::new(Selection {
            vms: vec![web],
            ..Selection::default()
        });
        let name = |tgid| Some(format!("{}-{tgid}", ["db", "web"][tgid as usize % 2]).into());
        for tgid in 0..u32::try_from(MAX_KNOWN_TASKS).unwrap() + 1000 {
            assert_eq!(selector.decide_process(tgid, &name), Some(tgid % 2 == 1));
        }
        assert_eq!(selector.processes.len(), MAX_KNOWN_TASKS);
    }
}
