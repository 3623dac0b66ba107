//! Names that belong to an item of a stream.

use crate::model::VmName;

/// The names of the thread and of the VMs at the time of an item.
#[derive(Clone, Copy)]
#[cfg_attr(
    feature = "test-api",
    expect(
        missing_debug_implementations,
        reason = "functions do not implement Debug"
    )
)]
pub struct ItemNames<'a> {
    /// The name of the thread in which the event happened; empty for other items.
    pub comm: &'a str,
    /// The index of the vCPU that the event concerns, if it is known.
    pub vcpu: Option<u32>,
    /// Returns the name of a VM by its process, if it is known.
    pub vm_name: &'a dyn Fn(u32) -> Option<VmName>,
}
