//! Options that select VMs, vCPUs and threads.

use std::{fmt, path::Path};

use clap::Args;
use globset::GlobMatcher;
use kvm_ebpf_common::MAX_FILTER_IDS;

use super::{
    GlobList,
    describe::{describe_recorded_vms, similar_vms},
};
use crate::{
    bounds::{Letters, compile_glob, excerpt},
    cli::usage::{UsageError, bail_usage},
    probe::PlanError,
    source::RecordedProcess,
    timing::{Filter, Selection, matches_vm},
    view::SelectedBy,
};

/// Options that select VMs, vCPUs and threads.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(in crate::cli) struct TargetArgs {
    /// Select VMs by the process id of the VMM
    #[arg(short, long = "pid", value_name = "PID", value_delimiter = ',', value_parser = parse_pid)]
    pub(super) pids: Vec<u32>,

    /// Select VMs by name, with globs; or by UUID
    ///
    /// `kvm-collector list` shows the names of running VMs. VMs that start later are included.
    #[arg(long = "vm", value_name = "GLOB")]
    vms: Vec<GlobList>,

    /// Fail if a glob of --vm matches no running VM, or if the kvm module is not loaded
    ///
    /// By default, the command waits for them.
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,

    /// Select vCPUs by index; lists and ranges work (0-3,8)
    #[arg(long = "vcpu", value_name = "N", value_delimiter = ',', value_parser = parse_range)]
    vcpus: Vec<IdRange>,

    /// Select threads by thread id
    #[arg(long = "tid", value_name = "TID", value_delimiter = ',', value_parser = parse_tid)]
    pub(super) tids: Vec<u32>,
}

/// A range of numbers, including both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct IdRange(u32, u32);

impl IdRange {
    pub(super) fn contains(self, id: u32) -> bool {
        (self.0..=self.1).contains(&id)
    }
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(first, last) if first == last => write!(f, "{first}"),
            Self(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// Parses `3` or `0-3`.
fn parse_range(text: &str) -> Result<IdRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parse = |number: &str| number.trim().parse().ok();
    match (parse(first), parse(last)) {
        (Some(first), Some(last)) if first <= last => Ok(IdRange(first, last)),
        (Some(_), Some(_)) => Err("the first number of a range is the smaller one".to_owned()),
        _ => Err("give numbers and ranges, such as 0-3,8".to_owned()),
    }
}

fn parse_pid(text: &str) -> Result<u32, String> {
    let error = |_| "a process id is a number; --vm selects VMs by name".to_owned();
    text.parse().map_err(error)
}

fn parse_tid(text: &str) -> Result<u32, String> {
    let error = |_| "a thread id is a number; `kvm-collector list` shows those of vCPUs".to_owned();
    text.parse().map_err(error)
}

impl TargetArgs {
    /// Returns the options that select all VMs by name.
    pub(in crate::cli) fn any_vm() -> Self {
        Self {
            pids: Vec::new(),
            vms: vec![GlobList(vec!["*".to_owned()])],
            no_wait: false,
            vcpus: Vec::new(),
            tids: Vec::new(),
        }
    }

    /// Returns the globs that select VMs.
    pub(super) fn vm_patterns(&self) -> Vec<String> {
        GlobList::all(&self.vms)
    }

    /// Returns the values of these options.
    pub(in crate::cli) fn selected_by(&self) -> SelectedBy {
        SelectedBy {
            vm: self.vm_patterns(),
            pid: self.pids.clone(),
            vcpu: self.vcpus.iter().map(IdRange::to_string).collect(),
            tid: self.tids.clone(),
            ..SelectedBy::default()
        }
    }

    /// Returns the ranges of the selected vCPUs, as they are given.
    pub(super) fn vcpu_ranges(&self) -> &[IdRange] {
        &self.vcpus
    }

    /// Returns the indices of the selected vCPUs, sorted.
    fn vcpu_indices(&self) -> Result<Vec<u32>, PlanError> {
        // Not more than the filter could hold anyway, so that a large range takes no memory.
        let selected = |it: &IdRange| (it.1 - it.0) as usize + 1;
        let count: usize = self.vcpus.iter().map(selected).sum();
        if count > MAX_FILTER_IDS {
            return Err(PlanError::TooManyIds {
                ids: "vCPUs",
                selected: count,
            });
        }
        let mut indices: Vec<u32> = self.vcpus.iter().flat_map(|it| it.0..=it.1).collect();
        indices.sort_unstable();
        indices.dedup();
        Ok(indices)
    }

    /// Returns the selection for a recording. Only after reading is it known whether it matches anything.
    ///
    /// # Errors
    /// When a VM name is not a valid glob.
    pub(in crate::cli) fn for_recording(&self) -> anyhow::Result<Selection> {
        let patterns = self.vm_patterns();
        let vms = patterns.iter().map(|pattern| vm_matcher(pattern));
        Ok(Selection {
            filter: Filter {
                tgids: self.pids.clone(),
                tids: self.tids.clone(),
                vcpus: self.vcpu_indices()?,
                reasons: None,
            },
            vms: vms.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Checks that each selected process and VM name occurs among the processes of a recording.
    ///
    /// # Errors
    /// When one does not occur.
    pub(in crate::cli) fn check_all_seen(
        &self,
        seen: &[RecordedProcess],
        file: &Path,
    ) -> anyhow::Result<()> {
        for &pid in &self.pids {
            if !seen.iter().any(|it| it.pid == pid) {
                bail_usage!(
                    "no events of process {pid} in {}: {}",
                    file.display(),
                    describe_recorded_vms(seen)
                );
            }
        }
        for pattern in self.vm_patterns() {
            let matcher = vm_matcher(&pattern)?;
            if !seen.iter().any(|it| matches_vm(&matcher, &it.vm)) {
                let vms = seen.iter().filter(|it| it.is_vm);
                bail_usage!(
                    "no events of a VM named `{pattern}` in {}: {}{}",
                    file.display(),
                    describe_recorded_vms(seen),
                    similar_vms(vms.map(|it| &*it.vm.name), &pattern)
                );
            }
        }
        Ok(())
    }
}

pub(super) fn vm_matcher(pattern: &str) -> anyhow::Result<GlobMatcher> {
    compile_glob(pattern, Letters::CaseSensitive).map_err(|error| {
        let message = format!(
            "`{}` is not a valid glob for VM names: {error}",
            excerpt(pattern)
        );
        UsageError(message).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_vcpus_are_expanded() {
        let some = TargetArgs {
            pids: Vec::new(),
            vms: Vec::new(),
            no_wait: false,
            vcpus: vec![IdRange(0, 3), IdRange(8, 8)],
            tids: Vec::new(),
        };
        assert_eq!(some.vcpu_indices().unwrap(), [0, 1, 2, 3, 8]);
    }

    #[test]
    fn misspelt_vms_of_a_recording_get_similar_names() {
        let some = TargetArgs {
            vms: vec![GlobList(vec!["wbe-1".to_owned()])],
            ..TargetArgs::any_vm()
        };
        let process = |pid, is_vm| RecordedProcess {
            pid,
            vm: "web-1".into(),
            is_vm,
        };
        let seen = [process(6, false), process(7, true)];
        let error = some.check_all_seen(&seen, Path::new("kvm.data"));
        let error = error.unwrap_err().to_string();
        assert!(
            error.ends_with("it has events of web-1 (pid 7): did you mean web-1?"),
            "{error}"
        );
    }

    #[test]
    fn ranges_are_parsed() {
        assert_eq!(parse_range("0-3"), Ok(IdRange(0, 3)));
        assert_eq!(parse_range("8"), Ok(IdRange(8, 8)));
        assert!(parse_range("3-0").unwrap_err().contains("smaller"));
        for text in ["", "foo", "-", "1-", "-1", "0-3-5", "4294967296"] {
            assert!(parse_range(text).unwrap_err().contains("0-3,8"), "{text}");
        }
    }

    #[test]
    fn a_range_of_too_many_vcpus_is_an_error() {
        let args = TargetArgs {
            pids: Vec::new(),
            vms: Vec::new(),
            no_wait: false,
            vcpus: vec![IdRange(0, u32::MAX), IdRange(0, u32::MAX)],
            tids: Vec::new(),
        };
        assert!(args.vcpu_indices().is_err());
    }
}
