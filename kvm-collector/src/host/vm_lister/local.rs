//! Lists VMs and reads what their vCPUs do, in this process.

use std::{io, path::PathBuf};

use super::super::{
    vcpu_activity::{ActivityReader, IdleVcpu},
    vm::{self, VmList},
};

/// Lists VMs, and reads what the vCPUs of the VMs in the latest list do.
#[derive(Debug)]
pub(super) struct LocalLister {
    proc: PathBuf,
    latest: VmList,
    activity: ActivityReader,
}

impl LocalLister {
    pub(super) fn new(proc: PathBuf) -> Self {
        Self {
            proc,
            latest: VmList::default(),
            activity: ActivityReader::default(),
        }
    }

    /// Lists the VMs; see [`vm::list`].
    pub(super) fn list(&mut self) -> io::Result<VmList> {
        self.latest = vm::list(&self.proc)?;
        self.activity.retain(&self.latest.vms);
        Ok(self.latest.clone())
    }

    /// Reads what the vCPUs of a VM do; none if the VM is not in the latest list.
    pub(super) fn read_vcpus(&mut self, tgid: u32) -> Vec<IdleVcpu> {
        let vm = self.latest.vms.iter().find(|vm| vm.tgid == tgid);
        vm.map_or(Vec::new(), |vm| self.activity.read(vm))
    }
}
