//! Names of keys, VMs and vCPUs for readings.

use std::collections::{HashMap, HashSet};

use kvm_ebpf_common::Key;

use crate::{
    host::vcpu_index_in_comm,
    model::{ThreadId, VcpuId},
    timing::TimingRequest,
    view::{KeyNames, Scope, TopReading},
};

/// Creates an empty reading of the exits that a request times.
pub(super) fn new_reading(scope: Scope, timing: Option<&TimingRequest>) -> TopReading {
    let counted = timing.and_then(|it| it.counted_event.as_ref());
    TopReading::new(scope, counted.map(|it| &it.kind))
}

/// Names that earlier readings have looked up.
#[derive(Debug, Default)]
pub(super) struct NameCache {
    /// Keys that have been sent with a name.
    named_keys: HashSet<Key>,
    /// Indices of vCPUs that events do not show, from the names of their threads.
    vcpu_indices: HashMap<VcpuId, Option<u32>>,
}

impl NameCache {
    /// Adds names to a reading. `comm` returns the name of a thread.
    pub(super) fn add_names(
        &mut self,
        reading: &mut TopReading,
        timing: Option<&TimingRequest>,
        vm_name: &dyn Fn(u32) -> Option<String>,
        comm: &dyn Fn(ThreadId) -> Option<String>,
    ) {
        let Some(timing) = timing else { return };
        let present: HashSet<VcpuId> = reading.vcpus.iter().map(|it| it.vcpu_id).collect();
        let indices = &mut self.vcpu_indices;
        indices.retain(|vcpu_id, _| present.contains(vcpu_id));
        let mut vcpu_index = |vcpu_id: VcpuId| {
            *indices
                .entry(vcpu_id)
                .or_insert_with(|| vcpu_index_in_comm(&comm(vcpu_id.thread())?))
        };
        let names = KeyNames::new(timing);
        reading.add_names(&mut self.named_keys, &names, vm_name, &mut vcpu_index);
    }
}
