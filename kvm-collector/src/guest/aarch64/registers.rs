//! Registers of a vCPU.

use kvm_bindings::{KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64};
use kvm_ioctls::VcpuFd;

use crate::guest::layout::Layout;
use crate::guest::{GuestError, Plan};

/// Remaining rounds.
pub(super) const REMAINING: u32 = 19;
/// Completed rounds.
pub(super) const DONE: u32 = 20;
/// Page that the kind `page-fault` touches next.
pub(super) const NEXT_PAGE: u32 = 21;
/// Address without memory, for writes.
pub(super) const MMIO_WRITE: u32 = 22;
/// Address without memory, for reads.
pub(super) const MMIO_READ: u32 = 23;
/// Page with dirty logging.
pub(super) const WRITTEN_PAGE: u32 = 24;
/// Ticks until the virtual timer expires.
pub(super) const TIMER_TICKS: u32 = 25;
/// Number of the program counter in KVM's structure of registers, after x0 to x30 and sp.
pub(super) const PC: u32 = 32;

/// Sets the registers that the program uses.
pub(super) fn init(
    fd: &VcpuFd,
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    timer_hz: u64,
) -> Result<(), GuestError> {
    let values = [
        (PC, layout.code_page(vcpu)),
        (REMAINING, plan.exits.into()),
        (DONE, 0),
        (NEXT_PAGE, layout.first_touch_pages(vcpu)),
        (MMIO_WRITE, layout.mmio_write_page(vcpu)),
        (MMIO_READ, layout.mmio_read_page(vcpu)),
        (WRITTEN_PAGE, layout.written_page(vcpu)),
        (TIMER_TICKS, plan.timer_ticks(timer_hz)),
    ];
    for (register, value) in values {
        fd.set_one_reg(id(register), &value.to_le_bytes())
            .map_err(GuestError::kvm("KVM_SET_ONE_REG"))?;
    }
    Ok(())
}

/// Reads a register.
pub(super) fn read(fd: &VcpuFd, register: u32) -> Result<u64, GuestError> {
    let mut bytes = [0; 8];
    fd.get_one_reg(id(register), &mut bytes)
        .map_err(GuestError::kvm("KVM_GET_ONE_REG"))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Returns KVM's id of a register. It contains the offset in the structure in units of 4 bytes.
fn id(register: u32) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | u64::from(KVM_REG_ARM_CORE) | u64::from(register) * 2
}
