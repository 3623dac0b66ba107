//! Names of hosts and VMs in rows.

use super::{groups::GroupKey, host_rates::RowRates, merged::MergedExits};
use crate::{
    model::{VmName, pid_of},
    view::RecordedHost,
};

/// Looks up the names of hosts and VMs in the `exits` view.
#[derive(Clone, Copy)]
#[cfg_attr(
    feature = "test-api",
    expect(
        missing_debug_implementations,
        reason = "functions do not implement Debug"
    )
)]
pub enum RowLabels<'a> {
    /// All exits are of one host. The groups have the ids of VMs.
    OneHost {
        /// The host, if rows are to have it.
        host: Option<&'a RecordedHost>,
        /// Returns the name of a VM by its id.
        vm_name: &'a dyn Fn(u32) -> VmName,
    },
    /// The exits are those of several recordings.
    Merged(&'a MergedExits),
}

impl RowLabels<'_> {
    /// Returns whether rows are grouped by host.
    pub(super) fn has_hosts(&self) -> bool {
        match self {
            Self::OneHost { host, .. } => host.is_some(),
            Self::Merged(merged) => merged.is_by_host(),
        }
    }

    /// Returns the host of a row, if the row has one.
    pub(super) fn host(&self, key: &GroupKey) -> Option<RecordedHost> {
        match self {
            Self::OneHost { host, .. } => host.cloned(),
            Self::Merged(merged) => key.host.and_then(|host| merged.host(host)).cloned(),
        }
    }

    /// Returns the host of a VM, if there is more than one host.
    pub(super) fn host_of_vm(&self, id: u32) -> Option<RecordedHost> {
        match self {
            Self::OneHost { host, .. } => host.cloned(),
            Self::Merged(merged) => merged.host_of_vm(id).cloned(),
        }
    }

    /// Returns how long the host of a row was recorded; `None` if the row is not about one of several recordings' hosts.
    pub(super) fn elapsed_ns(&self, key: &GroupKey) -> Option<u64> {
        match self {
            Self::OneHost { .. } => None,
            Self::Merged(merged) => merged.elapsed_ns(key),
        }
    }

    /// Returns the rates of a row about several hosts; `None` for other rows, whose rates follow from the time.
    pub(super) fn rates(&self, key: &GroupKey) -> Option<RowRates> {
        match self {
            Self::OneHost { .. } => None,
            Self::Merged(merged) => merged.rates(key),
        }
    }

    /// Returns whether the preempted time of a row was measured. `is_watched` tells whether any was.
    pub(super) fn has_preempted(&self, key: &GroupKey, is_watched: bool) -> bool {
        match self {
            Self::OneHost { .. } => is_watched,
            Self::Merged(merged) => merged.has_preempted(key),
        }
    }

    /// Returns the name and the UUID of a VM.
    pub(super) fn vm_name(&self, id: u32) -> VmName {
        match self {
            Self::OneHost { vm_name, .. } => vm_name(id),
            Self::Merged(merged) => merged.vm(id).0,
        }
    }

    /// Returns the process id of a VM.
    pub(super) fn pid(&self, id: u32) -> u32 {
        match self {
            Self::OneHost { .. } => pid_of(id),
            Self::Merged(merged) => merged.vm(id).1,
        }
    }
}
