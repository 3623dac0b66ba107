//! Interrupt controller that KVM emulates in the kernel (GICv3).
//!
//! User space configures it, so the guest program needs no setup code with further exits.

use std::sync::atomic::{AtomicU32, Ordering};

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::system_register::SystemRegister;
use crate::guest::{GuestError, Plan};

/// Addresses below the memory, as in other VMMs.
const DISTRIBUTOR: u64 = 0x0800_0000;
/// One region of 128 KiB per vCPU follows.
const REDISTRIBUTORS: u64 = 0x080a_0000;

const GICD_CTLR: u64 = 0;
const ENABLE_GROUP_1: u32 = 1 << 1;
/// Registers of a redistributor's second frame, which is for the interrupts of its vCPU.
const GICR_IGROUPR0: u64 = 0x1_0080;
const GICR_ISENABLER0: u64 = 0x1_0100;
/// Bit of the virtual timer's interrupt, which has number 27.
const VIRTUAL_TIMER: u32 = 1 << 27;
/// Lets all interrupts through. The timer has priority 0, which is the highest.
const LOWEST_PRIORITY: u64 = 0xf8;

/// The devices of a VM, and its power state.
#[derive(Debug)]
pub(in crate::guest) struct Devices {
    /// Number of vCPUs whose program has not ended.
    running_vcpus: AtomicU32,
    /// The GIC, if the plan needs it.
    gic: Option<DeviceFd>,
}

impl Devices {
    /// Creates the interrupt controller, if the plan needs it.
    pub(in crate::guest) fn create(fd: &VmFd, plan: &Plan) -> Result<Self, GuestError> {
        let running_vcpus = AtomicU32::new(plan.vcpus);
        if !plan.needs_gic() {
            return Ok(Self {
                running_vcpus,
                gic: None,
            });
        }
        let mut device = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
            ..kvm_create_device::default()
        };
        let gic = fd
            .create_device(&mut device)
            .map_err(GuestError::kvm("KVM_CREATE_DEVICE"))?;
        let addresses = [
            (KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR),
            (KVM_VGIC_V3_ADDR_TYPE_REDIST, REDISTRIBUTORS),
        ];
        for (kind, address) in addresses {
            set(&gic, KVM_DEV_ARM_VGIC_GRP_ADDR, kind.into(), &address)?;
        }
        Ok(Self {
            running_vcpus,
            gic: Some(gic),
        })
    }

    /// Must be called when the program of a vCPU has ended. Returns whether it was the last one of the VM.
    pub(super) fn end_vcpu(&self) -> bool {
        self.running_vcpus.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Enables the interrupt of the virtual timer on all vCPUs. KVM requires that all vCPUs exist.
    pub(in crate::guest) fn init(&self, vcpus: u32) -> Result<(), GuestError> {
        let Some(gic) = &self.gic else {
            return Ok(());
        };
        let init = u64::from(KVM_DEV_ARM_VGIC_CTRL_INIT);
        set(gic, KVM_DEV_ARM_VGIC_GRP_CTRL, init, &0_u64)?;
        set(
            gic,
            KVM_DEV_ARM_VGIC_GRP_DIST_REGS,
            GICD_CTLR,
            &ENABLE_GROUP_1,
        )?;
        for vcpu in (0..vcpus).map(affinity) {
            let registers = [(GICR_IGROUPR0, u32::MAX), (GICR_ISENABLER0, VIRTUAL_TIMER)];
            for (register, value) in registers {
                set(
                    gic,
                    KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
                    vcpu | register,
                    &value,
                )?;
            }
            let registers = [
                (SystemRegister::ICC_PMR_EL1, LOWEST_PRIORITY),
                (SystemRegister::ICC_IGRPEN1_EL1, 1),
            ];
            for (register, value) in registers {
                let attribute = vcpu | register.gic_attribute();
                set(gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, attribute, &value)?;
            }
        }
        Ok(())
    }
}

/// Returns the affinity that KVM gives a vCPU, as attributes contain it. The lowest level has only 4 bits.
fn affinity(vcpu: u32) -> u64 {
    u64::from(vcpu & 0xf) << 32 | u64::from(vcpu >> 4 & 0xff) << 40
}

/// Sets an attribute of the device. The attribute determines the size of the value.
fn set<T>(gic: &DeviceFd, group: u32, attr: u64, value: &T) -> Result<(), GuestError> {
    let attribute = kvm_device_attr {
        group,
        attr,
        addr: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    gic.set_device_attr(&attribute)
        .map_err(GuestError::kvm("KVM_SET_DEVICE_ATTR"))
}
