//! Creates a virtual machine with its guest memory and vCPUs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::arch::{Devices, HostCpu, RAM_START, init_vcpu, write_program};
use super::layout::{Layout, PAGE, PAGE_BYTES};
use super::memory::Memory;
use super::{GuestError, Plan};

/// Virtual machine with its memory. It must outlive its vCPUs, which run on this memory.
#[derive(Debug)]
pub(super) struct Vm {
    // Fields are dropped in this order: the VM must be closed before its memory is unmapped.
    pub(super) devices: Devices,
    pub(super) fd: VmFd,
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

impl Vm {
    /// Creates a VM with its guest programs in memory, but without vCPUs.
    pub(super) fn new(kvm: &Kvm, plan: &Plan, cpu: &HostCpu) -> Result<Self, GuestError> {
        plan.validate()?;
        let layout = Layout::new(plan)?;
        let mut memory = Memory::new(RAM_START, layout.total_bytes(plan.vcpus))?;
        for vcpu in 0..plan.vcpus {
            write_program(&mut memory, plan, &layout, vcpu, cpu)?;
        }

        let fd = create_vm(kvm)?;
        let devices = Devices::create(&fd, plan)?;
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
            devices,
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
    pub(super) fn vcpu(&self, cpu: &HostCpu, plan: &Plan, vcpu: u32) -> Result<VcpuFd, GuestError> {
        let fd = self
            .fd
            .create_vcpu(vcpu.into())
            .map_err(GuestError::kvm("KVM_CREATE_VCPU"))?;
        init_vcpu(&fd, &self.fd, cpu, plan, vcpu)?;
        Ok(fd)
    }

    /// Configures the devices. Must be called when all vCPUs exist, and before the first one runs.
    pub(super) fn init_devices(&self) -> Result<(), GuestError> {
        self.devices.init(self.vcpus)
    }

    /// Reads the dirty log of a vCPU's written page, which write-protects the page again.
    pub(super) fn read_dirty_log(&self, vcpu: u32) -> Result<(), GuestError> {
        self.fd
            .get_dirty_log(written_page_slot(self.vcpus, vcpu), PAGE_BYTES)
            .map_err(GuestError::kvm("KVM_GET_DIRTY_LOG"))?;
        Ok(())
    }
}

/// Returns the memory slot of a vCPU's written page. The slots of the main regions come first.
fn written_page_slot(vcpus: u32, vcpu: u32) -> u32 {
    vcpus + vcpu
}

/// Maps part of the memory into the guest.
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
        userspace_addr: memory.host_address(start),
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
