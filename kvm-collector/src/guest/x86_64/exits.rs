//! Handles the exits to user space.

use kvm_ioctls::VcpuExit;

use super::irqchip;
use super::ports::{BOOT_PORT, DIRTY_PORT, END_PORT, IO_PORT};
use crate::guest::GuestError;
use crate::guest::progress::Next;
use crate::guest::report::VcpuReport;
use crate::guest::vm::Vm;

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

/// Performs the action of a vCPU's `out` to a port. Returns `false` if the port has no action.
fn handle_port_write(vm: &Vm, port: u16, vcpu: u32) -> Result<bool, GuestError> {
    if port == DIRTY_PORT {
        vm.read_dirty_log(vcpu)?;
        return Ok(true);
    }
    irqchip::handle_port_write(&vm.fd, port, vcpu)
}
