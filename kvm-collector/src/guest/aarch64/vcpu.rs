//! The program and the registers of a vCPU.

use std::arch::asm;

use kvm_bindings::{KVM_ARM_VCPU_PSCI_0_2, kvm_vcpu_init};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::registers::{self, DONE, NEXT_PAGE, PC};
use super::{Isa, code};
use crate::guest::layout::Layout;
use crate::guest::memory::Memory;
use crate::guest::progress::Progress;
use crate::guest::{GuestError, Plan};

/// Properties of the host's processor that the vCPUs need.
#[derive(Debug)]
pub(in crate::guest) struct HostCpu {
    timer_hz: u64,
}

impl HostCpu {
    /// Reads the properties.
    pub(in crate::guest) fn read(_kvm: &Kvm) -> Result<Self, GuestError> {
        let timer_hz: u64;
        // SAFETY: the instruction only reads a register that Linux lets user space read.
        unsafe { asm!("mrs {}, cntfrq_el0", out(reg) timer_hz, options(nomem, nostack)) };
        Ok(Self { timer_hz })
    }

    /// Returns the virtualization extension.
    pub(in crate::guest) fn isa(&self) -> Option<Isa> {
        Isa::detect()
    }
}

/// Writes the program of a vCPU.
pub(in crate::guest) fn write_program(
    memory: &mut Memory,
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    _cpu: &HostCpu,
) -> Result<(), GuestError> {
    memory.write(layout.code_page(vcpu), &code::assemble(plan)?)
}

/// Initializes a new vCPU and sets its registers.
pub(in crate::guest) fn init_vcpu(
    fd: &VcpuFd,
    vm: &VmFd,
    cpu: &HostCpu,
    plan: &Plan,
    vcpu: u32,
) -> Result<(), GuestError> {
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target)
        .map_err(GuestError::kvm("KVM_ARM_PREFERRED_TARGET"))?;
    target.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    fd.vcpu_init(&target)
        .map_err(GuestError::kvm("KVM_ARM_VCPU_INIT"))?;
    registers::init(fd, plan, &Layout::new(plan)?, vcpu, cpu.timer_hz)
}

/// Returns that nothing follows the end of the program.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it can fail on other architectures"
)]
pub(in crate::guest) fn prepare_shutdown(_: &VcpuFd, _: &Plan) -> Result<bool, GuestError> {
    Ok(false)
}

/// Reads the registers that show how far the program is.
pub(in crate::guest) fn read_progress(fd: &VcpuFd) -> Result<Progress, GuestError> {
    Ok(Progress {
        instruction: registers::read(fd, PC)?,
        rounds: registers::read(fd, DONE)?,
        next_page: registers::read(fd, NEXT_PAGE)?,
    })
}
