//! Runs one vCPU until its program ends, and counts its exits to user space.

use std::thread;

use kvm_ioctls::VcpuFd;

use super::arch::{self, Isa, Kind};
use super::layout::{Layout, PAGE};
use super::progress::Next;
use super::report::VcpuReport;
use super::time_breakdown::Stopwatch;
use super::vm::Vm;
use super::{GuestError, Plan};

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
        let next = match exit {
            Ok(exit) => arch::handle_exit(exit, vm, position.vcpu, &mut report)?,
            // A signal interrupted the thread, for example from a debugger or the freezer. The kernel
            // emits kvm_userspace_exit for this too.
            Err(error) if error.errno() == libc::EINTR => {
                report.eintr += 1;
                report.userspace_exits_total += 1;
                continue;
            }
            Err(error) => return Err(GuestError::kvm("KVM_RUN")(error)),
        };
        match next {
            Next::Run => {}
            Next::Booted => drop(boot_lock.take()),
            Next::End => {
                check_progress(fd, plan, position)?;
                if !arch::prepare_shutdown(fd, plan)? {
                    break;
                }
                has_ended = true;
            }
            Next::ShutDown if has_ended => break,
            Next::ShutDown => return Err(unexpected_exit(fd, position, "Shutdown".to_owned())),
            Next::Unexpected(exit) => return Err(unexpected_exit(fd, position, exit)),
        }
        if !plan.sleep.is_zero() {
            thread::sleep(plan.sleep);
        }
    }
    report.time_breakdown = stopwatch.stop();
    Ok(report)
}

/// Checks that the guest's registers show the planned number of rounds and touched pages.
fn check_progress(fd: &VcpuFd, plan: &Plan, position: VcpuPosition) -> Result<(), GuestError> {
    let progress = arch::read_progress(fd)?;
    let touches = plan
        .kinds
        .iter()
        .filter(|&&kind| kind == Kind::PageFault)
        .count() as u64;
    let planned = u64::from(plan.exits);
    let last_page = Layout::new(plan)?.first_touch_pages(position.vcpu) + planned * touches * PAGE;
    if (progress.rounds, progress.next_page) == (planned, last_page) {
        Ok(())
    } else {
        Err(GuestError::WrongRoundCount {
            vm: position.vm,
            vcpu: position.vcpu,
            done: progress.rounds,
            planned,
        })
    }
}

fn unexpected_exit(
    fd: &VcpuFd,
    VcpuPosition { vm, vcpu }: VcpuPosition,
    exit: String,
) -> GuestError {
    match arch::read_progress(fd) {
        Ok(progress) => GuestError::UnexpectedExit {
            vm,
            vcpu,
            exit,
            instruction: progress.instruction,
            rounds: progress.rounds,
        },
        Err(error) => error,
    }
}
