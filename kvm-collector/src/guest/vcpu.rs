//! Runs one vCPU until its program ends, and counts its exits to user space.

use std::thread;

use kvm_ioctls::{VcpuExit, VcpuFd};

use super::layout::{Layout, PAGE};
use super::report::VcpuReport;
use super::time_breakdown::Stopwatch;
use super::vm::Vm;
use super::{BOOT_PORT, END_PORT, GuestError, IO_PORT, Isa, Kind, Plan};

/// Position of a vCPU in a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct VcpuPosition {
    /// Index of the VM.
    pub(super) vm: u32,
    /// Index of the vCPU in the VM.
    pub(super) vcpu: u32,
}

/// Runs a vCPU until its program ends. Must be called on the thread `tid`.
pub(super) fn run(
    fd: &mut VcpuFd,
    vm: &Vm,
    plan: &Plan,
    isa: Option<Isa>,
    position: VcpuPosition,
    tid: u32,
) -> Result<VcpuReport, GuestError> {
    let mut report = VcpuReport::expected(plan, isa, position.vcpu, tid);
    let mut boot_lock = Some(vm.lock_boot());
    let mut stopwatch = Stopwatch::start();
    let mut has_ended = false;
    loop {
        stopwatch.before_run();
        let exit = fd.run();
        stopwatch.after_run();
        match exit {
            Ok(VcpuExit::IoOut(END_PORT, _)) => {
                report.count_userspace_exit("KVM_EXIT_IO");
                check_registers(fd, plan, position)?;
                if !plan.ends_with_triple_fault() {
                    break;
                }
                has_ended = true;
                remove_interrupt_table(fd)?;
            }
            Ok(VcpuExit::Shutdown) if has_ended => {
                report.count_userspace_exit("KVM_EXIT_SHUTDOWN");
                break;
            }
            Ok(VcpuExit::IoOut(BOOT_PORT, _)) => {
                report.count_userspace_exit("KVM_EXIT_IO");
                drop(boot_lock.take());
            }
            Ok(VcpuExit::IoOut(IO_PORT, _)) => report.count_userspace_exit("KVM_EXIT_IO"),
            Ok(VcpuExit::IoOut(port, _)) if vm.handle_port_write(port, position.vcpu)? => {
                report.count_userspace_exit("KVM_EXIT_IO");
            }
            Ok(VcpuExit::IoIn(IO_PORT, data)) => {
                data.fill(0);
                report.count_userspace_exit("KVM_EXIT_IO");
            }
            Ok(VcpuExit::MmioWrite(..)) => report.count_userspace_exit("KVM_EXIT_MMIO"),
            Ok(VcpuExit::MmioRead(_, data)) => {
                data.fill(0);
                report.count_userspace_exit("KVM_EXIT_MMIO");
            }
            Ok(VcpuExit::Hlt) => report.count_userspace_exit("KVM_EXIT_HLT"),
            Ok(other) => {
                let exit = format!("{other:?}");
                return Err(unexpected_exit(fd, position, exit));
            }
            // A signal interrupted the thread, for example from a debugger or the freezer. The kernel
            // emits kvm_userspace_exit for this too.
            Err(error) if error.errno() == libc::EINTR => {
                report.eintr += 1;
                report.userspace_exits_total += 1;
                continue;
            }
            Err(error) => return Err(GuestError::kvm("KVM_RUN")(error)),
        }
        if !plan.sleep.is_zero() {
            thread::sleep(plan.sleep);
        }
    }
    report.time_breakdown = stopwatch.stop();
    Ok(report)
}

/// Checks that the guest's registers show the planned number of rounds and touched pages.
fn check_registers(fd: &VcpuFd, plan: &Plan, position: VcpuPosition) -> Result<(), GuestError> {
    let regs = fd.get_regs().map_err(GuestError::kvm("KVM_GET_REGS"))?;
    let touches = plan
        .kinds
        .iter()
        .filter(|&&kind| kind == Kind::PageFault)
        .count() as u64;
    let planned = u64::from(plan.exits);
    let last_page = Layout::new(plan)?.first_touch_pages(position.vcpu) + planned * touches * PAGE;
    if (regs.rdi, regs.rbp) == (planned, last_page) {
        Ok(())
    } else {
        Err(GuestError::WrongRoundCount {
            vm: position.vm,
            vcpu: position.vcpu,
            done: regs.rdi,
            planned,
        })
    }
}

/// Makes the next exception of the guest a triple fault.
fn remove_interrupt_table(fd: &VcpuFd) -> Result<(), GuestError> {
    let mut sregs = fd.get_sregs().map_err(GuestError::kvm("KVM_GET_SREGS"))?;
    sregs.idt.limit = 0;
    fd.set_sregs(&sregs)
        .map_err(GuestError::kvm("KVM_SET_SREGS"))
}

fn unexpected_exit(
    fd: &VcpuFd,
    VcpuPosition { vm, vcpu }: VcpuPosition,
    exit: String,
) -> GuestError {
    match fd.get_regs() {
        Ok(regs) => GuestError::UnexpectedExit {
            vm,
            vcpu,
            exit,
            rip: regs.rip,
            rounds: regs.rdi,
        },
        Err(error) => GuestError::kvm("KVM_GET_REGS")(error),
    }
}
