//! A VM without vCPUs that exists during the whole test run.
//!
//! When the first VM is created and when the last one is closed, KVM patches the scheduler's code (`preempt_notifier_key`)
//! while other CPUs execute it. QEMU's emulation sometimes loses that race. The kernel then dies of an `int3` in
//! `__schedule` that it has already removed. With a VM that stays, no test creates the first VM or closes the last one.

use std::sync::{Mutex, PoisonError};

use kvm_ioctls::{Kvm, VmFd};

static RESIDENT_VM: Mutex<Option<VmFd>> = Mutex::new(None);

/// Creates the VM. Does nothing if this machine has no KVM, since it then needs no such VM.
pub(crate) fn create() {
    *RESIDENT_VM.lock().unwrap_or_else(PoisonError::into_inner) =
        Kvm::new().and_then(|kvm| kvm.create_vm()).ok();
}

/// Closes the VM, so that KVM's modules can be unloaded.
pub(crate) fn close() {
    *RESIDENT_VM.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
