//! The program and the registers of a vCPU.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::{Isa, Kind, Mode, code, irqchip, registers};
use crate::guest::layout::Layout;
use crate::guest::memory::Memory;
use crate::guest::progress::Progress;
use crate::guest::{GuestError, Plan};

/// Properties of the host's processor that the vCPUs need.
#[derive(Debug)]
pub(in crate::guest) struct HostCpu {
    isa: Option<Isa>,
    cpuid: CpuId,
}

impl HostCpu {
    /// Reads the properties. Call it only once: the ioctl is slow.
    pub(in crate::guest) fn read(kvm: &Kvm) -> Result<Self, GuestError> {
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(GuestError::kvm("KVM_GET_SUPPORTED_CPUID"))?;
        let isa = Isa::detect();
        Ok(Self { isa, cpuid })
    }

    /// Returns the virtualization extension, if there is one.
    pub(in crate::guest) fn isa(&self) -> Option<Isa> {
        self.isa
    }

    /// Returns whether guests may use XSAVE and `xsetbv`.
    fn has_xsave(&self) -> bool {
        const LEAF_1_ECX_XSAVE: u32 = 1 << 26;
        let mut leaves = self.cpuid.as_slice().iter();
        leaves.any(|leaf| leaf.function == 1 && leaf.ecx & LEAF_1_ECX_XSAVE != 0)
    }
}

const NO_XSAVE: &str =
    "xsetbv exits are not possible: KVM offers guests no XSAVE on this processor";

/// Writes the program of a vCPU, and in long mode its page tables.
pub(in crate::guest) fn write_program(
    memory: &mut Memory,
    plan: &Plan,
    layout: &Layout,
    vcpu: u32,
    cpu: &HostCpu,
) -> Result<(), GuestError> {
    if plan.kinds.contains(&Kind::Xsetbv) && !cpu.has_xsave() {
        return Err(GuestError::ImpossiblePlan(NO_XSAVE));
    }
    let program = code::assemble(plan, layout, vcpu, cpu.isa)?;
    memory.write(layout.code_page(vcpu), &program)?;
    if plan.mode == Mode::Long {
        for (gpa, table) in registers::page_tables(layout, vcpu) {
            memory.write(gpa, &table)?;
        }
    }
    Ok(())
}

/// Sets the registers of a new vCPU.
pub(in crate::guest) fn init_vcpu(
    fd: &VcpuFd,
    _vm: &VmFd,
    cpu: &HostCpu,
    plan: &Plan,
    vcpu: u32,
) -> Result<(), GuestError> {
    let layout = Layout::new(plan)?;
    fd.set_cpuid2(&cpu.cpuid)
        .map_err(GuestError::kvm("KVM_SET_CPUID2"))?;
    let reset = fd.get_sregs().map_err(GuestError::kvm("KVM_GET_SREGS"))?;
    fd.set_sregs(&registers::system_registers(plan, &layout, vcpu, reset))
        .map_err(GuestError::kvm("KVM_SET_SREGS"))?;
    fd.set_regs(&registers::general_registers(plan, &layout, vcpu))
        .map_err(GuestError::kvm("KVM_SET_REGS"))?;
    if plan.needs_irqchip() {
        irqchip::start_vcpu(fd)?;
    }
    Ok(())
}

/// Makes the next exception of the guest a triple fault, if the plan has one. Returns whether it has.
pub(in crate::guest) fn prepare_shutdown(fd: &VcpuFd, plan: &Plan) -> Result<bool, GuestError> {
    if !plan.ends_with_triple_fault() {
        return Ok(false);
    }
    let mut sregs = fd.get_sregs().map_err(GuestError::kvm("KVM_GET_SREGS"))?;
    sregs.idt.limit = 0;
    fd.set_sregs(&sregs)
        .map_err(GuestError::kvm("KVM_SET_SREGS"))?;
    Ok(true)
}

/// Reads the registers that show how far the program is.
pub(in crate::guest) fn read_progress(fd: &VcpuFd) -> Result<Progress, GuestError> {
    let regs = fd.get_regs().map_err(GuestError::kvm("KVM_GET_REGS"))?;
    Ok(Progress {
        instruction: regs.rip,
        rounds: regs.rdi,
        next_page: regs.rbp,
    })
}
