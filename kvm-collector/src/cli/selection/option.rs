//! The selection options one by one, to say which of them selected nothing.

use std::borrow::Cow;

use globset::GlobMatcher;
use kvm_ebpf_common::VCPU_UNKNOWN;

use super::{
    EventArgs, ReasonArgs, TargetArgs,
    target::{IdRange, vm_matcher},
};
use crate::{bounds::excerpt, model::VmName, timing::matches_vm};

/// A thread, for [`TargetOption::selects`].
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Subject<'a> {
    /// Process id.
    pub(in crate::cli) pid: u32,
    /// Thread id.
    pub(in crate::cli) tid: u32,
    /// Index of the vCPU; `VCPU_UNKNOWN` if it is unknown.
    pub(in crate::cli) vcpu: u32,
    /// The VM.
    pub(in crate::cli) vm: &'a VmName,
}

/// One selection of threads.
#[derive(Debug)]
pub(in crate::cli) struct TargetOption {
    /// The options as they are given: `--vcpu 9`.
    pub(in crate::cli) text: String,
    pub(in crate::cli) values: TargetValues,
}

/// The values of a selection of threads.
#[derive(Debug)]
pub(in crate::cli) enum TargetValues {
    /// Processes by id or by the name of the VM: one of them is enough.
    Processes(Vec<u32>, Vec<GlobMatcher>),
    /// Ranges of vCPU indices, including both ends.
    Vcpus(Vec<IdRange>),
    /// Thread ids.
    Threads(Vec<u32>),
}

impl TargetOption {
    /// Returns whether the option selects whole processes.
    pub(in crate::cli) fn is_by_process(&self) -> bool {
        matches!(self.values, TargetValues::Processes(..))
    }

    /// Returns whether the option selects a thread.
    pub(in crate::cli) fn selects(&self, subject: Subject<'_>) -> bool {
        match &self.values {
            TargetValues::Processes(pids, vms) => {
                pids.contains(&subject.pid) || vms.iter().any(|it| matches_vm(it, subject.vm))
            }
            TargetValues::Vcpus(ranges) => {
                subject.vcpu != VCPU_UNKNOWN && ranges.iter().any(|it| it.contains(subject.vcpu))
            }
            TargetValues::Threads(tids) => tids.contains(&subject.tid),
        }
    }
}

impl TargetArgs {
    /// Returns the options that are given, one by one.
    pub(in crate::cli) fn options(&self) -> Vec<TargetOption> {
        let selected = self.selected_by();
        let processes = [
            option_text("-p", &selected.pid),
            option_text("--vm", &selected.vm),
        ];
        let processes: Vec<_> = processes.into_iter().flatten().collect();
        let matchers = selected.vm.iter().filter_map(|it| vm_matcher(it).ok());
        let mut options = Vec::new();
        if !processes.is_empty() {
            options.push(TargetOption {
                text: processes.join(" "),
                values: TargetValues::Processes(selected.pid.clone(), matchers.collect()),
            });
        }
        if let Some(text) = option_text("--vcpu", &selected.vcpu) {
            let values = TargetValues::Vcpus(self.vcpu_ranges().to_vec());
            options.push(TargetOption { text, values });
        }
        if let Some(text) = option_text("--tid", &selected.tid) {
            let values = TargetValues::Threads(selected.tid);
            options.push(TargetOption { text, values });
        }
        options
    }
}

impl ReasonArgs {
    /// Returns the option as it is given: `--reason 'EPT_*'`. `None` if it is not.
    pub(in crate::cli) fn text(&self) -> Option<String> {
        option_text("--reason", &self.patterns())
    }
}

impl EventArgs {
    /// Returns the option as it is given: `-e kvm_pio`. `None` if it is not.
    pub(in crate::cli) fn text(&self) -> Option<String> {
        option_text("-e", &self.given())
    }
}

/// Returns an option with its values as they are written in a shell, or their start if they are long; `None` if there are no
/// values.
fn option_text(option: &str, values: &[impl ToString]) -> Option<String> {
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    let values = values.join(",");
    let shown = quote(&excerpt(&values)).into_owned();
    (!values.is_empty()).then(|| format!("{option} {shown}"))
}

/// Quotes text that a shell would not leave unchanged.
fn quote(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/@%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_as_in_a_shell() {
        assert_eq!(quote("web-1,0-3"), "web-1,0-3");
        assert_eq!(quote("EPT_*"), "'EPT_*'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        let none: [u32; 0] = [];
        assert_eq!(option_text("-p", &none), None);
        assert_eq!(option_text("-p", &[1, 2]).as_deref(), Some("-p 1,2"));
    }
}
