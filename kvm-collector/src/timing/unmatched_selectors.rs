//! The part of a selection that a recording has not matched yet.

use globset::GlobMatcher;

use super::{Selection, matches_vm};
use crate::model::{VmName, pid_of};

/// The selected processes and the patterns for VMs that no event has matched yet.
#[derive(Debug)]
pub struct UnmatchedSelectors {
    pids: Vec<u32>,
    vms: Vec<GlobMatcher>,
    last_tgid: Option<u32>,
}

impl UnmatchedSelectors {
    /// Starts with all processes and patterns of a selection.
    #[must_use]
    pub fn new(selection: &Selection) -> Self {
        Self {
            pids: selection.filter.tgids.clone(),
            vms: selection.vms.clone(),
            last_tgid: None,
        }
    }

    /// Adds a selected event of a process. Returns whether all processes and patterns have been matched.
    pub fn add_event(&mut self, tgid: u32, vm_name: impl FnOnce(u32) -> VmName) -> bool {
        if self.last_tgid != Some(tgid) && !self.is_empty() {
            self.last_tgid = Some(tgid);
            self.pids.retain(|it| *it != pid_of(tgid));
            let vm = vm_name(tgid);
            self.vms.retain(|it| !matches_vm(it, &vm));
        }
        self.is_empty()
    }

    /// Returns whether all processes and patterns have been matched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pids.is_empty() && self.vms.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use globset::Glob;

    use super::*;
    use crate::timing::Filter;

    #[test]
    fn every_process_and_pattern_must_be_matched() {
        let glob = |text: &str| Glob::new(text).expect("a glob").compile_matcher();
        let selection = Selection {
            filter: Filter {
                tgids: vec![9],
                ..Filter::default()
            },
            vms: vec![glob("web-*"), glob("web-1")],
        };
        let mut unmatched = UnmatchedSelectors::new(&selection);
        assert!(!unmatched.add_event(7, |_| "web-2".into()));
        assert!(!unmatched.add_event(9, |_| "db".into()));
        assert!(unmatched.add_event(8, |_| "web-1".into()));
        let all = Selection::default();
        assert!(UnmatchedSelectors::new(&all).add_event(7, |_| "db".into()));
    }
}
