//! One VM that is there all the time.
//!
//! With the first VM, and again with the last one gone, KVM patches the scheduler's code (`preempt_notifier_key`), while the other CPU
//! runs it. QEMU's emulation sometimes loses that race: the kernel then dies of an `int3` in `__schedule` that is no longer there.
//! As long as there is a VM, there is no first and no last one.

use std::sync::{Mutex, PoisonError};

use kvm_ioctls::{Kvm, VmFd};

static KEPT: Mutex<Option<VmFd>> = Mutex::new(None);

/// Makes it; without KVM there is none, and no need of one.
pub(crate) fn keep() {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) =
        Kvm::new().and_then(|kvm| kvm.create_vm()).ok();
}

/// Lets it go: KVM's modules can be removed.
pub(crate) fn let_go() {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
