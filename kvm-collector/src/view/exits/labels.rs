//! Names of hosts and VMs in rows.

use super::{groups::GroupKey, merged::MergedExits};
use crate::model::{VmName, pid_of};

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
        /// The name of the host, if rows are to have it.
        host: Option<&'a str>,
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
    pub(super) fn host(&self, key: &GroupKey) -> Option<String> {
        match self {
            Self::OneHost { host, .. } => host.map(str::to_owned),
            Self::Merged(merged) => key.host.map(|host| merged.host_name(host).to_owned()),
        }
    }

    /// Returns the host of a VM, if there is more than one host.
    pub(super) fn host_of_vm(&self, id: u32) -> Option<String> {
        match self {
            Self::OneHost { host, .. } => host.map(str::to_owned),
            Self::Merged(merged) => merged.host_of_vm(id).map(str::to_owned),
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
