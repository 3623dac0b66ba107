//! Names of keys and VMs for readings.

use std::collections::HashSet;

use kvm_ebpf_common::Key;

use crate::{
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
}

impl NameCache {
    /// Adds names to a reading.
    pub(super) fn add_names(
        &mut self,
        reading: &mut TopReading,
        timing: Option<&TimingRequest>,
        vm_name: &dyn Fn(u32) -> Option<String>,
    ) {
        let Some(timing) = timing else { return };
        let names = KeyNames::new(timing);
        reading.add_names(&mut self.named_keys, &names, vm_name);
    }
}
