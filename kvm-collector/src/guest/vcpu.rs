//! Running one vCPU to its end, and counting on the way.

use std::thread;

use kvm_ioctls::{VcpuExit, VcpuFd};

use super::layout::{Layout, PAGE};
use super::made::VcpuMade;
use super::times::Stopwatch;
use super::vm::Vm;
use super::{BOOT_PORT, END_PORT, GuestError, Isa, Kind, PORT, Plan};

/// What a vCPU is called in errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) vm: u32,
    pub(super) vcpu: u32,
}

/// Runs a vCPU until its program ends.
pub(super) fn run(
    fd: &mut VcpuFd,
    vm: &Vm,
    plan: &Plan,
    isa: Option<Isa>,
    place: Place,
    tid: u32,
) -> Result<VcpuMade, GuestError> {
    let mut made = VcpuMade::by_construction(plan, isa, place.vcpu, tid);
    let mut booting = Some(vm.boot_turn());
    let mut watch = Stopwatch::start();
    loop {
        watch.entering();
        let exit = fd.run();
        watch.returned();
        match exit {
            Ok(VcpuExit::IoOut(END_PORT, _)) => {
                made.count("KVM_EXIT_IO");
                break;
            }
            Ok(VcpuExit::IoOut(BOOT_PORT, _)) => {
                made.count("KVM_EXIT_IO");
                drop(booting.take());
            }
            Ok(VcpuExit::IoOut(PORT, _)) => made.count("KVM_EXIT_IO"),
            Ok(VcpuExit::IoOut(port, _)) if vm.serve(port, place.vcpu)? => {
                made.count("KVM_EXIT_IO");
            }
            Ok(VcpuExit::IoIn(PORT, data)) => {
                data.fill(0);
                made.count("KVM_EXIT_IO");
            }
            Ok(VcpuExit::MmioWrite(..)) => made.count("KVM_EXIT_MMIO"),
            Ok(VcpuExit::MmioRead(_, data)) => {
                data.fill(0);
                made.count("KVM_EXIT_MMIO");
            }
            Ok(VcpuExit::Hlt) => made.count("KVM_EXIT_HLT"),
            Ok(other) => {
                let exit = format!("{other:?}");
                return Err(unexpected(fd, place, exit));
            }
            // Something signalled the thread (a debugger, the freezer). The kernel counts this as an exit to user
            // space too; the guest has not moved.
            Err(error) if error.errno() == libc::EINTR => {
                made.eintr += 1;
                made.userspace_exits_total += 1;
                continue;
            }
            Err(error) => return Err(GuestError::kvm("KVM_RUN")(error)),
        }
        if !plan.sleep.is_zero() {
            thread::sleep(plan.sleep);
        }
    }
    made.times = watch.stop();
    check(fd, plan, place)?;
    Ok(made)
}

/// Compares what the guest counted in its registers with what it was asked for.
fn check(fd: &VcpuFd, plan: &Plan, place: Place) -> Result<(), GuestError> {
    let regs = fd.get_regs().map_err(GuestError::kvm("KVM_GET_REGS"))?;
    let touches = plan
        .kinds
        .iter()
        .filter(|&&kind| kind == Kind::PageFault)
        .count() as u64;
    let asked = u64::from(plan.exits);
    let last_page = Layout::of(plan)?.touched(place.vcpu) + asked * touches * PAGE;
    if (regs.rdi, regs.rbp) == (asked, last_page) {
        Ok(())
    } else {
        Err(GuestError::Miscounted {
            vm: place.vm,
            vcpu: place.vcpu,
            done: regs.rdi,
            asked,
        })
    }
}

fn unexpected(fd: &VcpuFd, Place { vm, vcpu }: Place, exit: String) -> GuestError {
    match fd.get_regs() {
        Ok(regs) => GuestError::Unexpected {
            vm,
            vcpu,
            exit,
            rip: regs.rip,
            rounds: regs.rdi,
        },
        Err(error) => GuestError::kvm("KVM_GET_REGS")(error),
    }
}
