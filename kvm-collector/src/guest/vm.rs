//! Creates a virtual machine with its guest memory and vCPUs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::layout::{Layout, PAGE, PAGE_BYTES};
use super::memory::Memory;
use super::ports::DIRTY_PORT;
use super::{GuestError, Isa, Mode, Plan, code, irqchip, registers};

/// Guest-physical address of three pages that KVM needs on Intel. Other VMMs use the same address, just
/// below the firmware.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// Virtual machine with its memory. It must outlive its vCPUs, which run on this memory.
#[derive(Debug)]
pub(super) struct Vm {
    // Fields are dropped in this order: the VM must be closed before its memory is unmapped.
    fd: VmFd,
    _memory: Memory,
    vcpus: u32,
    /// Held by the vCPU that boots. See [`super::layout`] for why only one boots at a time.
    boot_lock: Mutex<()>,
}

/// Opens `/dev/kvm`.
pub(super) fn open_kvm() -> Result<Kvm, GuestError> {
    Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => GuestError::NoKvm,
        libc::EACCES | libc::EPERM => GuestError::NoPermission,
        _ => GuestError::kvm("opening /dev/kvm")(error),
    })
}

/// Returns the CPUID entries for all vCPUs. Call it only once: the ioctl is slow.
pub(super) fn supported_cpuid(kvm: &Kvm) -> Result<CpuId, GuestError> {
    kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(GuestError::kvm("KVM_GET_SUPPORTED_CPUID"))
}

/// Returns whether guests with these CPUID entries may use XSAVE and `xsetbv`.
pub(super) fn has_xsave(cpuid: &CpuId) -> bool {
    const LEAF_1_ECX_XSAVE: u32 = 1 << 26;
    cpuid
        .as_slice()
        .iter()
        .any(|entry| entry.function == 1 && entry.ecx & LEAF_1_ECX_XSAVE != 0)
}

impl Vm {
    /// Creates a VM with its guest programs in memory, but without vCPUs.
    pub(super) fn new(kvm: &Kvm, plan: &Plan, isa: Option<Isa>) -> Result<Self, GuestError> {
        plan.validate()?;
        let layout = Layout::new(plan)?;
        let mut memory = Memory::new(layout.total_bytes(plan.vcpus))?;
        for vcpu in 0..plan.vcpus {
            memory.write(
                layout.code_page(vcpu),
                &code::assemble(plan, &layout, vcpu, isa)?,
            )?;
            if plan.mode == Mode::Long {
                for (gpa, table) in registers::page_tables(&layout, vcpu) {
                    memory.write(gpa, &table)?;
                }
            }
        }

        let fd = create_vm(kvm)?;
        fd.set_tss_address(TSS_ADDRESS)
            .map_err(GuestError::kvm("KVM_SET_TSS_ADDR"))?;
        if plan.needs_irqchip() {
            irqchip::create(&fd)?;
        }
        for vcpu in 0..plan.vcpus {
            let start = layout.region(vcpu);
            add_memory_slot(&fd, &memory, vcpu, 0, start, layout.backed_bytes())?;
            if plan.needs_written_page() {
                let slot = written_page_slot(plan.vcpus, vcpu);
                let page = layout.written_page(vcpu);
                add_memory_slot(&fd, &memory, slot, KVM_MEM_LOG_DIRTY_PAGES, page, PAGE)?;
            }
        }
        Ok(Self {
            fd,
            _memory: memory,
            vcpus: plan.vcpus,
            boot_lock: Mutex::new(()),
        })
    }

    /// Waits until no other vCPU of this VM boots. The guard holds the lock.
    pub(super) fn lock_boot(&self) -> MutexGuard<'_, ()> {
        self.boot_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a vCPU and sets its registers.
    pub(super) fn vcpu(&self, cpuid: &CpuId, plan: &Plan, vcpu: u32) -> Result<VcpuFd, GuestError> {
        let layout = Layout::new(plan)?;
        let fd = self
            .fd
            .create_vcpu(vcpu.into())
            .map_err(GuestError::kvm("KVM_CREATE_VCPU"))?;
        fd.set_cpuid2(cpuid)
            .map_err(GuestError::kvm("KVM_SET_CPUID2"))?;
        let reset = fd.get_sregs().map_err(GuestError::kvm("KVM_GET_SREGS"))?;
        fd.set_sregs(&registers::system_registers(plan, &layout, vcpu, reset))
            .map_err(GuestError::kvm("KVM_SET_SREGS"))?;
        fd.set_regs(&registers::general_registers(plan, &layout, vcpu))
            .map_err(GuestError::kvm("KVM_SET_REGS"))?;
        if plan.needs_irqchip() {
            irqchip::start_vcpu(&fd)?;
        }
        Ok(fd)
    }

    /// Performs the action of a vCPU's `out` to a port. Returns `false` if the port has no action.
    pub(super) fn handle_port_write(&self, port: u16, vcpu: u32) -> Result<bool, GuestError> {
        if port != DIRTY_PORT {
            return irqchip::handle_port_write(&self.fd, port, vcpu);
        }
        self.fd
            .get_dirty_log(written_page_slot(self.vcpus, vcpu), PAGE_BYTES)
            .map_err(GuestError::kvm("KVM_GET_DIRTY_LOG"))?;
        Ok(true)
    }
}

/// Returns the memory slot of a vCPU's written page. The slots of the main regions come first.
fn written_page_slot(vcpus: u32, vcpu: u32) -> u32 {
    vcpus + vcpu
}

/// Maps part of the memory into the guest. Its guest-physical address is its offset in the memory.
fn add_memory_slot(
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
    // SAFETY: the range is inside the mapping. Only the `Vm` uses the mapping, and unmaps it last.
    unsafe { fd.set_user_memory_region(region) }
        .map_err(GuestError::kvm("KVM_SET_USER_MEMORY_REGION"))
}

/// Creates a VM. Retries if a signal interrupts the ioctl.
fn create_vm(kvm: &Kvm) -> Result<VmFd, GuestError> {
    loop {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(GuestError::kvm("KVM_CREATE_VM")),
        }
    }
}
