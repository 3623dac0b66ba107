//! The program of an endless VM on x86-64, in real mode.

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use libtest_mimic::Failed;

/// `out 0x10, al`, then a jump back to it.
pub(super) const PROGRAM: [u8; 4] = [0xe6, 0x10, 0xeb, 0xfc];

/// Prepares a VM without vCPUs.
pub(super) fn prepare_vm(vm: &VmFd) -> Result<(), Failed> {
    Ok(vm.set_tss_address(0xfffb_d000)?)
}

/// Lets a vCPU start at the program.
pub(super) fn prepare_vcpu(_: &VmFd, vcpu: &VcpuFd, start: u64) -> Result<(), Failed> {
    let mut system = vcpu.get_sregs()?;
    (system.cs.base, system.cs.selector) = (0, 0);
    vcpu.set_sregs(&system)?;
    let mut general = vcpu.get_regs()?;
    (general.rip, general.rflags) = (start, 2);
    Ok(vcpu.set_regs(&general)?)
}

/// Returns whether the program causes this exit.
pub(super) fn is_expected(exit: &VcpuExit<'_>) -> bool {
    matches!(exit, VcpuExit::IoOut(0x10, _))
}
