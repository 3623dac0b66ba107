//! The program of an endless VM on arm64, without address translation.

use kvm_bindings::{
    KVM_ARM_VCPU_PSCI_0_2, KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64, kvm_vcpu_init,
};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use libtest_mimic::Failed;

/// `str w0, [x1]`, then a jump back to it.
pub(super) const PROGRAM: [u8; 8] = [0x20, 0x00, 0x00, 0xb9, 0xff, 0xff, 0xff, 0x17];

/// An address without memory, which `x1` contains.
const NO_MEMORY: u64 = 0x10_0000;

/// Numbers of registers in KVM's structure of registers.
const X1: u64 = 1;
const PC: u64 = 32;

/// Prepares a VM without vCPUs.
#[expect(clippy::unnecessary_wraps, reason = "it can fail on other processors")]
pub(super) fn prepare_vm(_: &VmFd) -> Result<(), Failed> {
    Ok(())
}

/// Lets a vCPU start at the program.
pub(super) fn prepare_vcpu(vm: &VmFd, vcpu: &VcpuFd, start: u64) -> Result<(), Failed> {
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target)?;
    target.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    vcpu.vcpu_init(&target)?;
    for (register, value) in [(PC, start), (X1, NO_MEMORY)] {
        // The id contains the offset in the structure in units of 4 bytes.
        let id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | register * 2;
        vcpu.set_one_reg(id, &value.to_le_bytes())?;
    }
    Ok(())
}

/// Returns whether the program causes this exit.
pub(super) fn is_expected(exit: &VcpuExit<'_>) -> bool {
    matches!(exit, VcpuExit::MmioWrite(NO_MEMORY, _))
}
