//! The program, the registers and the exits of a vCPU.

use std::arch::asm;

use kvm_bindings::{KVM_ARM_VCPU_PSCI_0_2, kvm_vcpu_init};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use super::layout::{BOOT_OFFSET, DIRTY_OFFSET, END_OFFSET};
use super::registers::{self, DONE, NEXT_PAGE, PC};
use super::{Isa, Kind, code};
use crate::guest::layout::{Layout, PAGE};
use crate::guest::memory::Memory;
use crate::guest::report::{VcpuReport, expected_exits};
use crate::guest::vcpu::{Next, Progress};
use crate::guest::vm::Vm;
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

/// Handles an exit to user space, and counts it.
pub(in crate::guest) fn handle_exit(
    exit: VcpuExit<'_>,
    vm: &Vm,
    vcpu: u32,
    report: &mut VcpuReport,
) -> Result<Next, GuestError> {
    let (reason, next) = match exit {
        // Pages without memory are aligned, so the offset identifies the purpose of a write.
        VcpuExit::MmioWrite(address, _) => (
            "KVM_EXIT_MMIO",
            match address % PAGE {
                BOOT_OFFSET => Next::Booted,
                DIRTY_OFFSET => {
                    vm.read_dirty_log(vcpu)?;
                    Next::Run
                }
                END_OFFSET if vm.devices.end_vcpu() => {
                    add_power_off(report);
                    Next::Run
                }
                END_OFFSET => Next::End,
                _ => Next::Run,
            },
        ),
        VcpuExit::MmioRead(_, data) => {
            data.fill(0);
            ("KVM_EXIT_MMIO", Next::Run)
        }
        // PSCI_SYSTEM_OFF. The kernel has stopped all vCPUs of the VM.
        VcpuExit::SystemEvent(..) => ("KVM_EXIT_SYSTEM_EVENT", Next::End),
        other => return Ok(Next::Unexpected(format!("{other:?}"))),
    };
    report.count_userspace_exit(reason);
    Ok(next)
}

/// Adds the hypercall that powers the VM off.
pub(super) fn add_power_off(report: &mut VcpuReport) {
    *report.executed.entry(Kind::Hypercall).or_default() += 1;
    report.kvm_exits = Some(expected_exits(
        Isa::Arm64,
        report.boot_pages,
        &report.executed,
    ));
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
