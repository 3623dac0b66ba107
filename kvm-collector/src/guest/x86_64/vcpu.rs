//! The program, the registers and the exits of a vCPU.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use super::ports::{BOOT_PORT, DIRTY_PORT, END_PORT, IO_PORT};
use super::{Isa, Kind, Mode, code, irqchip, registers};
use crate::guest::layout::Layout;
use crate::guest::memory::Memory;
use crate::guest::report::VcpuReport;
use crate::guest::vcpu::{Next, Progress};
use crate::guest::vm::Vm;
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

/// Handles an exit to user space, and counts it.
pub(in crate::guest) fn handle_exit(
    exit: VcpuExit<'_>,
    vm: &Vm,
    vcpu: u32,
    report: &mut VcpuReport,
) -> Result<Next, GuestError> {
    let (reason, next) = match exit {
        VcpuExit::IoOut(END_PORT, _) => ("KVM_EXIT_IO", Next::End),
        VcpuExit::IoOut(BOOT_PORT, _) => ("KVM_EXIT_IO", Next::Booted),
        VcpuExit::IoOut(IO_PORT, _) => ("KVM_EXIT_IO", Next::Run),
        VcpuExit::IoOut(port, _) if handle_port_write(vm, port, vcpu)? => {
            ("KVM_EXIT_IO", Next::Run)
        }
        VcpuExit::IoIn(IO_PORT, data) => {
            data.fill(0);
            ("KVM_EXIT_IO", Next::Run)
        }
        VcpuExit::MmioWrite(..) => ("KVM_EXIT_MMIO", Next::Run),
        VcpuExit::MmioRead(_, data) => {
            data.fill(0);
            ("KVM_EXIT_MMIO", Next::Run)
        }
        VcpuExit::Hlt => ("KVM_EXIT_HLT", Next::Run),
        VcpuExit::Shutdown => ("KVM_EXIT_SHUTDOWN", Next::ShutDown),
        other => return Ok(Next::Unexpected(format!("{other:?}"))),
    };
    report.count_userspace_exit(reason);
    Ok(next)
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

/// Performs the action of a vCPU's `out` to a port. Returns `false` if the port has no action.
fn handle_port_write(vm: &Vm, port: u16, vcpu: u32) -> Result<bool, GuestError> {
    if port == DIRTY_PORT {
        vm.read_dirty_log(vcpu)?;
        return Ok(true);
    }
    irqchip::handle_port_write(&vm.fd, port, vcpu)
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
