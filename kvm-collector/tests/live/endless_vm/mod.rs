//! A VM of the test process. Its vCPUs run in threads of this process.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
mod processor;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
mod processor;

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use libtest_mimic::Failed;

use crate::check::ensure;

#[repr(align(4096))]
struct Page([u8; 4096]);

/// Guest-physical address of the program.
const START: u64 = 0x1000;

/// A VM with vCPUs that cause exits to user space in an endless loop.
pub(crate) struct EndlessVm(VmFd);

impl EndlessVm {
    pub(crate) fn new() -> Result<Self, Failed> {
        let vm = Kvm::new()?.create_vm()?;
        processor::prepare_vm(&vm)?;
        // The page is never freed, since the kernel uses it as long as the VM exists.
        let page = Box::leak(Box::new(Page([0; 4096])));
        page.0[..processor::PROGRAM.len()].copy_from_slice(&processor::PROGRAM);
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: START,
            memory_size: 4096,
            userspace_addr: page.0.as_ptr() as u64,
        };
        // SAFETY: the page is leaked, so it stays valid.
        unsafe { vm.set_user_memory_region(region) }?;
        Ok(Self(vm))
    }

    pub(crate) fn vcpu(&self, index: u64) -> Result<VcpuFd, Failed> {
        let vcpu = self.0.create_vcpu(index)?;
        processor::prepare_vcpu(&self.0, &vcpu, START)?;
        Ok(vcpu)
    }
}

/// Calls `KVM_RUN` `times` times.
pub(crate) fn run(vcpu: &mut VcpuFd, times: u32) -> Result<(), Failed> {
    for _ in 0..times {
        let exit = vcpu.run()?;
        ensure(processor::is_expected(&exit), || {
            format!("unexpected exit: {exit:?}")
        })?;
    }
    Ok(())
}

/// Receives a vCPU, runs it, and sends it to the other thread, `turns` times.
fn run_received(turns: u32, from: &Receiver<VcpuFd>, to: &Sender<VcpuFd>) -> Result<(), Failed> {
    for _ in 0..turns {
        let mut vcpu = from.recv()?;
        run(&mut vcpu, 3)?;
        // Fails after the last turn, when the other thread has ended.
        let _ = to.send(vcpu);
    }
    Ok(())
}

/// Runs a vCPU in two threads that alternate. Each turn has three calls of `KVM_RUN`.
pub(crate) fn run_in_turns(vcpu: VcpuFd, turns_each: u32) -> Result<(), Failed> {
    let (to_first, first) = channel();
    let (to_second, second) = channel();
    to_first.send(vcpu)?;
    let other = thread::spawn(move || run_received(turns_each, &second, &to_first));
    let own = thread::spawn(move || run_received(turns_each, &first, &to_second));
    own.join().map_err(|_| "a thread panicked")??;
    other.join().map_err(|_| "a thread panicked")?
}

/// Runs a vCPU in this thread, then in another one that ends, and some time later in this thread again.
pub(crate) fn run_after_another_thread_ended(
    mut vcpu: VcpuFd,
    pause: Duration,
) -> Result<(), Failed> {
    run(&mut vcpu, 3)?;
    let other = thread::spawn(move || run(&mut vcpu, 3).map(|()| vcpu));
    let mut vcpu = other.join().map_err(|_| "a thread panicked")??;
    thread::sleep(pause);
    run(&mut vcpu, 3)
}

/// Runs a vCPU in new threads, one after the other. Each of them calls `KVM_RUN` `runs` times.
pub(crate) fn run_in_new_threads(mut vcpu: VcpuFd, threads: u32, runs: u32) -> Result<(), Failed> {
    for _ in 0..threads {
        let turn = thread::spawn(move || run(&mut vcpu, runs).map(|()| vcpu));
        vcpu = turn.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}
