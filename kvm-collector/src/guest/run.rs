//! Runs the guests of a plan, with one thread per vCPU. The vCPUs start together.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use kvm_ioctls::VcpuFd;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::arch::HostCpu;
use super::file_limit::raise_file_limit;
use super::threads::{GuestThreads, VcpuThread, VmThreads};
use super::vcpu::VcpuPosition;
use super::vm::{Vm, open_kvm};
use super::{GuestError, GuestReport, Isa, Plan, VcpuReport, VmReport, vcpu};

/// Creates the guests of a plan and runs them to their end.
///
/// # Errors
/// If a guest cannot be created or does not run as planned.
#[cfg(feature = "test-api")]
pub fn run(plan: &Plan) -> Result<GuestReport, GuestError> {
    Guest::prepare(plan)?.run()
}

/// All VMs of a plan, ready to run.
///
/// If it is dropped without [`Guest::run`], the vCPU threads end without entering the guest.
#[derive(Debug)]
pub struct Guest {
    plan: Plan,
    isa: Option<Isa>,
    threads: Vec<VcpuJoinHandle>,
}

/// Handle of a vCPU thread. The thread waits for the start signal; dropping `start` cancels it.
#[derive(Debug)]
struct VcpuJoinHandle {
    position: VcpuPosition,
    tid: u32,
    start: SyncSender<()>,
    /// The result is `None` if the start was cancelled.
    handle: JoinHandle<Option<Result<VcpuReport, GuestError>>>,
}

impl Guest {
    /// Creates the VMs, vCPUs and threads of a plan, but does not enter the guests.
    ///
    /// # Errors
    /// If KVM or another resource cannot be used, or if the plan is not possible.
    pub fn prepare(plan: &Plan) -> Result<Self, GuestError> {
        let kvm = open_kvm()?;
        raise_file_limit(plan)?;
        let cpu = HostCpu::read(&kvm)?;
        let isa = cpu.isa();
        let mut threads = Vec::new();
        for vm_number in 0..plan.vms {
            let vm = Arc::new(Vm::new(&kvm, plan, &cpu)?);
            for vcpu in 0..plan.vcpus {
                let fd = vm.vcpu(&cpu, plan, vcpu)?;
                threads.push(VcpuJoinHandle::spawn(
                    VcpuPosition {
                        vm: vm_number,
                        vcpu,
                    },
                    fd,
                    Arc::clone(&vm),
                    plan.clone(),
                    isa,
                )?);
            }
            vm.init_devices()?;
        }
        Ok(Self {
            plan: plan.clone(),
            isa,
            threads,
        })
    }

    /// Returns the process and thread ids.
    #[must_use]
    pub fn threads(&self) -> GuestThreads {
        let vcpus_of = |vm| {
            self.threads
                .iter()
                .filter(move |thread| thread.position.vm == vm)
        };
        let vms = (0..self.plan.vms).map(|vm| VmThreads {
            vm,
            vcpus: vcpus_of(vm)
                .map(|thread| VcpuThread {
                    vcpu: thread.position.vcpu,
                    tid: thread.tid,
                })
                .collect(),
        });
        GuestThreads {
            pid: std::process::id(),
            vms: vms.collect(),
        }
    }

    /// Starts all vCPUs at once and waits until all of them have ended.
    ///
    /// # Errors
    /// The error of the first vCPU that did not run as planned.
    pub fn run(self) -> Result<GuestReport, GuestError> {
        for thread in &self.threads {
            // If the thread has died, `join` reports it.
            let _ = thread.start.send(());
        }
        let results: Vec<_> = self
            .threads
            .into_iter()
            .map(|thread| (thread.position.vm, thread.join()))
            .collect();
        let mut vms: Vec<_> = (0..self.plan.vms)
            .map(|vm| VmReport {
                vm,
                vcpus: Vec::new(),
            })
            .collect();
        for (number, result) in results {
            let report = result?;
            vms.iter_mut()
                .filter(|vm| vm.vm == number)
                .for_each(|vm| vm.vcpus.push(report.clone()));
        }
        Ok(GuestReport {
            pid: std::process::id(),
            mode: self.plan.mode,
            isa: self.isa,
            vms,
        })
    }
}

impl VcpuJoinHandle {
    /// Starts the thread of a vCPU. Its name has QEMU's format, which other tools look for.
    fn spawn(
        position: VcpuPosition,
        mut fd: VcpuFd,
        vm: Arc<Vm>,
        plan: Plan,
        isa: Option<Isa>,
    ) -> Result<Self, GuestError> {
        let (start, started) = sync_channel(1);
        let (tid_sender, tid) = sync_channel(1);
        let body = move || {
            let tid = thread_id();
            let bound = match plan.cpu_of(position.vm, position.vcpu) {
                Some(cpu) => pin_to_cpu(cpu, position),
                None => Ok(()),
            };
            tid_sender.send(bound.map(|()| tid)).ok()?;
            let result = wait_for_start(&started)
                .map(|()| vcpu::run(&mut fd, &vm, &plan, isa, position, tid));
            // The kernel uses the VM's memory for the vCPU, so close the vCPU first.
            drop(fd);
            drop(vm);
            result
        };
        let handle = thread::Builder::new()
            .name(format!("CPU {}/KVM", position.vcpu))
            .spawn(body)
            .map_err(|source| GuestError::Host {
                what: "a vCPU thread",
                source,
            })?;
        let tid = tid.recv().map_err(|_| GuestError::ThreadDied {
            vm: position.vm,
            vcpu: position.vcpu,
        })??;
        Ok(Self {
            position,
            tid,
            start,
            handle,
        })
    }

    fn join(self) -> Result<VcpuReport, GuestError> {
        let VcpuPosition { vm, vcpu } = self.position;
        self.handle
            .join()
            .ok()
            .flatten()
            .unwrap_or(Err(GuestError::ThreadDied { vm, vcpu }))
    }
}

/// Waits for the start signal. Returns `None` if the start was cancelled.
fn wait_for_start(started: &Receiver<()>) -> Option<()> {
    started.recv().ok()
}

/// Pins the calling thread to a CPU.
fn pin_to_cpu(cpu: u32, VcpuPosition { vm, vcpu }: VcpuPosition) -> Result<(), GuestError> {
    let failed = |source| GuestError::CannotPin {
        vm,
        vcpu,
        cpu,
        source,
    };
    let index = usize::try_from(cpu)
        .ok()
        .filter(|index| *index < CpuSet::MAX_CPU)
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut cpus = CpuSet::new();
    cpus.set(index);
    sched_setaffinity(None, &cpus).map_err(|errno| failed(errno.into()))
}

fn thread_id() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}
