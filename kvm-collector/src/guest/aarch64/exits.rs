//! Handles the exits to user space.

use kvm_ioctls::VcpuExit;

use super::layout::{BOOT_OFFSET, DIRTY_OFFSET, END_OFFSET};
use super::{Isa, Kind};
use crate::guest::GuestError;
use crate::guest::layout::PAGE;
use crate::guest::progress::Next;
use crate::guest::report::{VcpuReport, expected_exits};
use crate::guest::vm::Vm;

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
