//! One virtual machine: its memory, filled, and its vCPUs, ready to run.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::layout::{Layout, PAGE, PAGE_BYTES};
use super::memory::Memory;
use super::{GuestError, Isa, Mode, Plan, code, irqchip, registers};

/// Where Intel's KVM may keep three pages of its own: below the firmware, as every VMM has it.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// The port whose `out` makes user space read the log of what the vCPU wrote to.
pub(super) const DIRTY_PORT: u16 = 0xf9;

/// A machine that is complete; it must outlive its vCPUs, as the kernel uses its memory for them.
#[derive(Debug)]
pub(super) struct Vm {
    // In this order: the kernel lets go of the memory before it is unmapped.
    fd: VmFd,
    _memory: Memory,
    vcpus: u32,
    /// Held by the one vCPU that boots.
    booting: Mutex<()>,
}

/// Opens the host's KVM.
pub(super) fn open_kvm() -> Result<Kvm, GuestError> {
    Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => GuestError::NoKvm,
        libc::EACCES | libc::EPERM => GuestError::NotAllowed,
        _ => GuestError::kvm("opening /dev/kvm")(error),
    })
}

/// What processor the vCPUs are. The kernel takes a while to say it, so it is asked once for all of them.
pub(super) fn cpuid(kvm: &Kvm) -> Result<CpuId, GuestError> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(GuestError::kvm("KVM_GET_SUPPORTED_CPUID"))
}

impl Vm {
    pub(super) fn new(kvm: &Kvm, plan: &Plan, isa: Option<Isa>) -> Result<Self, GuestError> {
        plan.check()?;
        let layout = Layout::of(plan)?;
        let mut memory = Memory::new(layout.size(plan.vcpus))?;
        for vcpu in 0..plan.vcpus {
            memory.write(
                layout.code(vcpu),
                &code::assemble(plan, &layout, vcpu, isa)?,
            )?;
            if plan.mode == Mode::Long {
                for (gpa, table) in registers::page_tables(&layout, vcpu) {
                    memory.write(gpa, &table)?;
                }
            }
        }

        let fd = create(kvm)?;
        fd.set_tss_address(TSS_ADDRESS)
            .map_err(GuestError::kvm("KVM_SET_TSS_ADDR"))?;
        if plan.needs_irqchip() {
            irqchip::create(&fd)?;
        }
        for vcpu in 0..plan.vcpus {
            let start = layout.segment(vcpu);
            add_slot(&fd, &memory, vcpu, 0, start, layout.backed())?;
            if plan.needs_written() {
                let slot = written_slot(plan.vcpus, vcpu);
                let page = layout.written(vcpu);
                add_slot(&fd, &memory, slot, KVM_MEM_LOG_DIRTY_PAGES, page, PAGE)?;
            }
        }
        Ok(Self {
            fd,
            _memory: memory,
            vcpus: plan.vcpus,
            booting: Mutex::new(()),
        })
    }

    /// Waits for the turn to boot, which lasts as long as the guard.
    pub(super) fn boot_turn(&self) -> MutexGuard<'_, ()> {
        self.booting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn vcpu(&self, cpuid: &CpuId, plan: &Plan, vcpu: u32) -> Result<VcpuFd, GuestError> {
        let layout = Layout::of(plan)?;
        let fd = self
            .fd
            .create_vcpu(vcpu.into())
            .map_err(GuestError::kvm("KVM_CREATE_VCPU"))?;
        fd.set_cpuid2(cpuid)
            .map_err(GuestError::kvm("KVM_SET_CPUID2"))?;
        let reset = fd.get_sregs().map_err(GuestError::kvm("KVM_GET_SREGS"))?;
        fd.set_sregs(&registers::system(plan, &layout, vcpu, reset))
            .map_err(GuestError::kvm("KVM_SET_SREGS"))?;
        fd.set_regs(&registers::general(plan, &layout, vcpu))
            .map_err(GuestError::kvm("KVM_SET_REGS"))?;
        if plan.needs_irqchip() {
            irqchip::switch_on(&fd)?;
        }
        Ok(fd)
    }

    /// Does what the `out` of a vCPU to a port asks for; `false` if it asks for nothing.
    pub(super) fn serve(&self, port: u16, vcpu: u32) -> Result<bool, GuestError> {
        if port != DIRTY_PORT {
            return irqchip::serve(&self.fd, port, vcpu);
        }
        self.fd
            .get_dirty_log(written_slot(self.vcpus, vcpu), PAGE_BYTES)
            .map_err(GuestError::kvm("KVM_GET_DIRTY_LOG"))?;
        Ok(true)
    }
}

/// The slots of the first pages, one a vCPU, come first.
fn written_slot(vcpus: u32, vcpu: u32) -> u32 {
    vcpus + vcpu
}

/// Gives the guest a part of the memory, at the same address.
fn add_slot(
    fd: &VmFd,
    memory: &Memory,
    slot: u32,
    flags: u32,
    start: u64,
    size: u64,
) -> Result<(), GuestError> {
    let region = kvm_userspace_memory_region {
        slot,
        flags,
        guest_phys_addr: start,
        memory_size: size,
        userspace_addr: memory.host_address() + start,
    };
    // SAFETY: the part lies within the mapping that the `Vm` owns, unmaps last and nobody else uses.
    unsafe { fd.set_user_memory_region(region) }
        .map_err(GuestError::kvm("KVM_SET_USER_MEMORY_REGION"))
}

/// Creates a VM. A signal that arrives meanwhile makes the kernel give up, so it is asked again.
fn create(kvm: &Kvm) -> Result<VmFd, GuestError> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            answer => return answer.map_err(GuestError::kvm("KVM_CREATE_VM")),
        }
    }
}
