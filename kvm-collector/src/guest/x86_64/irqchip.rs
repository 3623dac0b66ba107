//! Interrupt controllers that KVM emulates in the kernel (PIC, IOAPIC, APIC, PIT).
//!
//! User space configures them, so the guest program needs no setup code with further exits.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MP_STATE_RUNNABLE,
    KVM_PIT_SPEAKER_DUMMY, kvm_irqchip, kvm_mp_state, kvm_msi, kvm_pit_config, kvm_sregs,
};
use kvm_ioctls::{VcpuFd, VmFd};

use super::interrupts::{APIC_VECTOR, PIC_VECTOR};
use super::ports::{IOAPIC_PORT, IRQ_PORT, MSI_PORT};
use crate::guest::{GuestError, Plan};

/// PIC line that the kind `irq` uses. Only this line and line 0, the PIT's, are unmasked.
const PIC_LINE: u32 = 5;
/// First line that only the IOAPIC has. Line `FIRST_IOAPIC_LINE + n` interrupts vCPU `n`.
const FIRST_IOAPIC_LINE: u32 = 16;
const IOAPIC_LINE_COUNT: u32 = 8;

const APIC_BASE_X2APIC: u64 = 1 << 10;
const APIC_SPURIOUS_VECTOR: usize = 0xf0;
const APIC_SOFTWARE_ENABLE: u8 = 1;
const MSI_ADDRESS: u32 = 0xfee0_0000;

/// Guest-physical address of three pages that KVM needs on Intel. Other VMMs use the same address, just
/// below the firmware.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// The devices of a VM. They are part of it, so nothing has to be stored.
#[derive(Debug)]
pub(in crate::guest) struct Devices;

impl Devices {
    /// Creates and configures the interrupt controllers, if the plan needs them.
    pub(in crate::guest) fn create(fd: &VmFd, plan: &Plan) -> Result<Self, GuestError> {
        fd.set_tss_address(TSS_ADDRESS)
            .map_err(GuestError::kvm("KVM_SET_TSS_ADDR"))?;
        if plan.needs_irqchip() {
            create(fd)?;
        }
        Ok(Self)
    }

    /// Does nothing: the devices are configured before the first vCPU exists.
    pub(in crate::guest) fn init(&self, _vcpus: u32) -> Result<(), GuestError> {
        Ok(())
    }
}

/// Creates and configures the interrupt controllers of a VM. KVM requires this before the first vCPU.
fn create(fd: &VmFd) -> Result<(), GuestError> {
    fd.create_irq_chip()
        .map_err(GuestError::kvm("KVM_CREATE_IRQCHIP"))?;
    let pit = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    fd.create_pit2(pit)
        .map_err(GuestError::kvm("KVM_CREATE_PIT2"))?;
    update_chip(fd, KVM_IRQCHIP_PIC_MASTER, |chip| {
        // SAFETY: the kernel has filled in this member, that of a PIC.
        let pic = unsafe { &mut chip.chip.pic };
        pic.irq_base = PIC_VECTOR;
        pic.imr = !(1 | 1 << PIC_LINE);
        // Without automatic EOI, the handler would need an `out`, which is a further exit.
        pic.auto_eoi = 1;
    })?;
    update_chip(fd, KVM_IRQCHIP_PIC_SLAVE, |chip| {
        chip.chip.pic.imr = !0;
    })?;
    update_chip(fd, KVM_IRQCHIP_IOAPIC, |chip| {
        // SAFETY: the kernel has filled in this member, that of an IOAPIC.
        let ioapic = unsafe { &mut chip.chip.ioapic };
        let entries = ioapic.redirtbl.iter_mut().skip(FIRST_IOAPIC_LINE as usize);
        for (entry, vcpu) in entries.zip(0_u64..) {
            entry.bits = vcpu << 56 | u64::from(APIC_VECTOR);
        }
    })
}

fn update_chip(fd: &VmFd, id: u32, edit: impl FnOnce(&mut kvm_irqchip)) -> Result<(), GuestError> {
    let mut chip = kvm_irqchip {
        chip_id: id,
        ..kvm_irqchip::default()
    };
    fd.get_irqchip(&mut chip)
        .map_err(GuestError::kvm("KVM_GET_IRQCHIP"))?;
    edit(&mut chip);
    fd.set_irqchip(&chip)
        .map_err(GuestError::kvm("KVM_SET_IRQCHIP"))
}

/// Enables x2APIC mode, which uses MSRs. The guest's page tables do not map the APIC page.
pub(super) fn enable_x2apic(sregs: &mut kvm_sregs) {
    sregs.apic_base |= APIC_BASE_X2APIC;
}

/// Enables a vCPU's APIC and makes the vCPU runnable. Otherwise all vCPUs but the first would wait
/// for a startup IPI.
pub(super) fn start_vcpu(fd: &VcpuFd) -> Result<(), GuestError> {
    let mut apic = fd.get_lapic().map_err(GuestError::kvm("KVM_GET_LAPIC"))?;
    // The enable bit is in the second byte of the register.
    apic.regs[APIC_SPURIOUS_VECTOR + 1] |= APIC_SOFTWARE_ENABLE.cast_signed();
    fd.set_lapic(&apic)
        .map_err(GuestError::kvm("KVM_SET_LAPIC"))?;
    fd.set_mp_state(kvm_mp_state {
        mp_state: KVM_MP_STATE_RUNNABLE,
    })
    .map_err(GuestError::kvm("KVM_SET_MP_STATE"))
}

/// Performs the action of a vCPU's `out` to a port. Returns `false` if the port has no action.
pub(super) fn handle_port_write(fd: &VmFd, port: u16, vcpu: u32) -> Result<bool, GuestError> {
    match port {
        IRQ_PORT => pulse_irq_line(fd, PIC_LINE)?,
        IOAPIC_PORT => pulse_irq_line(fd, FIRST_IOAPIC_LINE + vcpu % IOAPIC_LINE_COUNT)?,
        MSI_PORT => {
            let msi = kvm_msi {
                address_lo: MSI_ADDRESS | (vcpu & 0xff) << 12,
                data: APIC_VECTOR.into(),
                ..kvm_msi::default()
            };
            fd.signal_msi(msi)
                .map_err(GuestError::kvm("KVM_SIGNAL_MSI"))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn pulse_irq_line(fd: &VmFd, line: u32) -> Result<(), GuestError> {
    for active in [true, false] {
        fd.set_irq_line(line, active)
            .map_err(GuestError::kvm("KVM_IRQ_LINE"))?;
    }
    Ok(())
}
