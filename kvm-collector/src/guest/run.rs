//! From a plan to numbers: a thread per vCPU, held at the start until all are there.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use kvm_ioctls::VcpuFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use super::vcpu::Place;
use super::vm::{self, Vm, open_kvm};
use super::{GuestError, Isa, Made, Plan, VcpuMade, VmMade, vcpu};

#[cfg(feature = "test-api")]
/// Makes the guests of a plan and runs them to their end.
///
/// # Errors
/// When the host does not let us, or when a guest does anything but what it was made for.
pub fn run(plan: &Plan) -> Result<Made, GuestError> {
    Guest::prepare(plan)?.run()
}

/// The guests of a plan, their threads waiting for the start.
///
/// Dropped without [`Guest::run`], the threads end without having entered their guest.
#[derive(Debug)]
pub struct Guest {
    plan: Plan,
    isa: Option<Isa>,
    threads: Vec<Thread>,
}

/// Who will run: the process and its vCPU threads, known before the first exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Roster {
    /// The process (tgid) all VMs live in.
    pub pid: u32,
    /// Each VM, by its number.
    pub vms: Vec<VmThreads>,
}

/// The threads of one VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VmThreads {
    /// Its number within the process, from 0.
    pub vm: u32,
    /// Each vCPU, by its index.
    pub vcpus: Vec<VcpuThread>,
}

/// The thread of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VcpuThread {
    /// Its index within the VM, from 0.
    pub vcpu: u32,
    /// Its thread id.
    pub tid: u32,
}

#[derive(Debug)]
struct Thread {
    place: Place,
    tid: u32,
    start: SyncSender<()>,
    handle: JoinHandle<Option<Result<VcpuMade, GuestError>>>,
}

impl Guest {
    /// Makes everything and enters nothing.
    ///
    /// # Errors
    /// When the host does not let us, or the plan asks for more than fits.
    pub fn prepare(plan: &Plan) -> Result<Self, GuestError> {
        let kvm = open_kvm()?;
        make_room_for_files(plan)?;
        let isa = Isa::of_host();
        let cpuid = vm::cpuid(&kvm)?;
        let mut threads = Vec::new();
        for vm_number in 0..plan.vms {
            let vm = Arc::new(Vm::new(&kvm, plan, isa)?);
            for vcpu in 0..plan.vcpus {
                let fd = vm.vcpu(&cpuid, plan, vcpu)?;
                threads.push(Thread::spawn(
                    Place {
                        vm: vm_number,
                        vcpu,
                    },
                    fd,
                    Arc::clone(&vm),
                    plan.clone(),
                    isa,
                )?);
            }
        }
        Ok(Self {
            plan: plan.clone(),
            isa,
            threads,
        })
    }

    /// Who will run.
    #[must_use]
    pub fn roster(&self) -> Roster {
        let vcpus_of = |vm| {
            self.threads
                .iter()
                .filter(move |thread| thread.place.vm == vm)
        };
        let vms = (0..self.plan.vms).map(|vm| VmThreads {
            vm,
            vcpus: vcpus_of(vm)
                .map(|thread| VcpuThread {
                    vcpu: thread.place.vcpu,
                    tid: thread.tid,
                })
                .collect(),
        });
        Roster {
            pid: std::process::id(),
            vms: vms.collect(),
        }
    }

    /// Starts all vCPUs at once and waits for all of them.
    ///
    /// # Errors
    /// The first vCPU's that did anything but what it was made for; the others have ended too.
    pub fn run(self) -> Result<Made, GuestError> {
        for thread in &self.threads {
            // A thread that is gone is reported when it is joined.
            let _ = thread.start.send(());
        }
        let results: Vec<_> = self
            .threads
            .into_iter()
            .map(|thread| (thread.place.vm, thread.join()))
            .collect();
        let mut vms: Vec<_> = (0..self.plan.vms)
            .map(|vm| VmMade {
                vm,
                vcpus: Vec::new(),
            })
            .collect();
        for (number, result) in results {
            let made = result?;
            vms.iter_mut()
                .filter(|vm| vm.vm == number)
                .for_each(|vm| vm.vcpus.push(made.clone()));
        }
        Ok(Made {
            pid: std::process::id(),
            mode: self.plan.mode,
            isa: self.isa,
            vms,
        })
    }
}

impl Thread {
    /// Starts the thread of a vCPU, named as QEMU names its own so that other tools find it.
    fn spawn(
        place: Place,
        mut fd: VcpuFd,
        vm: Arc<Vm>,
        plan: Plan,
        isa: Option<Isa>,
    ) -> Result<Self, GuestError> {
        let (start, started) = sync_channel(1);
        let (tell_tid, tid) = sync_channel(1);
        let body = move || {
            let tid = thread_id();
            let bound = match plan.cpu_of(place.vm, place.vcpu) {
                Some(cpu) => bind(cpu, place),
                None => Ok(()),
            };
            tell_tid.send(bound.map(|()| tid)).ok()?;
            let result = wait(&started).map(|()| vcpu::run(&mut fd, &vm, &plan, isa, place, tid));
            // The vCPU must be gone before the memory it runs on.
            drop(fd);
            drop(vm);
            result
        };
        let handle = thread::Builder::new()
            .name(format!("CPU {}/KVM", place.vcpu))
            .spawn(body)
            .map_err(|source| GuestError::Host {
                what: "a thread for a vCPU",
                source,
            })?;
        let tid = tid.recv().map_err(|_| GuestError::ThreadDied {
            vm: place.vm,
            vcpu: place.vcpu,
        })??;
        Ok(Self {
            place,
            tid,
            start,
            handle,
        })
    }

    fn join(self) -> Result<VcpuMade, GuestError> {
        let Place { vm, vcpu } = self.place;
        self.handle
            .join()
            .ok()
            .flatten()
            .unwrap_or(Err(GuestError::ThreadDied { vm, vcpu }))
    }
}

/// Waits for the start; `None` when there will be none.
fn wait(started: &Receiver<()>) -> Option<()> {
    started.recv().ok()
}

/// Binds the calling thread to a CPU.
fn bind(cpu: u32, Place { vm, vcpu }: Place) -> Result<(), GuestError> {
    let failed = |source| GuestError::NoCpu {
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

/// Each VM and each vCPU is an open file, and by default a process has 1024. It may raise that up to the hard limit.
fn make_room_for_files(plan: &Plan) -> Result<(), GuestError> {
    let needed = files(plan);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let too_many = |limit| GuestError::TooManyFiles {
        vms: plan.vms,
        vcpus: plan.vcpus,
        needed,
        limit,
    };
    if let Some(maximum) = limit.maximum
        && maximum < needed
    {
        return Err(too_many(maximum));
    }
    let raised = Rlimit {
        current: Some(needed),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|_| too_many(limit.current.unwrap_or(needed)))
}

/// Open files that the VMs of a plan take, and some for all else that a process has open.
fn files(plan: &Plan) -> u64 {
    const OTHERS: u64 = 64;
    u64::from(plan.vms) * (1 + u64::from(plan.vcpus)) + OTHERS
}

fn thread_id() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}
