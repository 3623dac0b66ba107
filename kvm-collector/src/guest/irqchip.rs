//! The interrupt controllers in the kernel, set up so that the guest's program need not do it.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_MP_STATE_RUNNABLE,
    KVM_PIT_SPEAKER_DUMMY, kvm_irqchip, kvm_mp_state, kvm_msi, kvm_pit_config, kvm_sregs,
};
use kvm_ioctls::{VcpuFd, VmFd};

use super::GuestError;
use super::interrupts::{APIC_VECTOR, PIC_VECTOR};

/// The port whose `out` makes user space pulse a line of the PIC.
pub(super) const IRQ_PORT: u16 = 0xf6;
/// The port whose `out` makes user space pulse a line of the IOAPIC.
pub(super) const IOAPIC_PORT: u16 = 0xf7;
/// The port whose `out` makes user space send the vCPU a message-signalled interrupt.
pub(super) const MSI_PORT: u16 = 0xf8;

/// A line that the PIC listens to, beside the PIT's.
const PIC_LINE: u32 = 5;
/// The first of the lines that only the IOAPIC has; each goes to one vCPU.
const IOAPIC_LINE: u32 = 16;
const IOAPIC_LINES: u32 = 8;

const APIC_BASE_X2APIC: u64 = 1 << 10;
const APIC_SPURIOUS: usize = 0xf0;
const APIC_ENABLED: u8 = 1;
const MSI_ADDRESS: u32 = 0xfee0_0000;

/// Makes the chips. They have to be there before the first vCPU.
pub(super) fn create(fd: &VmFd) -> Result<(), GuestError> {
    fd.create_irq_chip()
        .map_err(GuestError::kvm("KVM_CREATE_IRQCHIP"))?;
    let pit = kvm_pit_config {
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    };
    fd.create_pit2(pit)
        .map_err(GuestError::kvm("KVM_CREATE_PIT2"))?;
    change(fd, KVM_IRQCHIP_PIC_MASTER, |chip| {
        // SAFETY: the kernel has filled in this member, that of a PIC.
        let pic = unsafe { &mut chip.chip.pic };
        pic.irq_base = PIC_VECTOR;
        pic.imr = !(1 | 1 << PIC_LINE);
        // The end of each interrupt without an `out`, which would be one more exit.
        pic.auto_eoi = 1;
    })?;
    change(fd, KVM_IRQCHIP_PIC_SLAVE, |chip| {
        // A whole byte of a union that is nothing but plain bytes: writing it needs no promise.
        chip.chip.pic.imr = !0;
    })?;
    change(fd, KVM_IRQCHIP_IOAPIC, |chip| {
        // SAFETY: the kernel has filled in this member, that of an IOAPIC.
        let ioapic = unsafe { &mut chip.chip.ioapic };
        let entries = ioapic.redirtbl.iter_mut().skip(IOAPIC_LINE as usize);
        for (entry, vcpu) in entries.zip(0_u64..) {
            entry.bits = vcpu << 56 | u64::from(APIC_VECTOR);
        }
    })
}

fn change(fd: &VmFd, id: u32, edit: impl FnOnce(&mut kvm_irqchip)) -> Result<(), GuestError> {
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

/// The APIC is used by its MSRs (x2APIC): its page is out of the reach of the guest's page tables.
pub(super) fn use_msrs(sregs: &mut kvm_sregs) {
    sregs.apic_base |= APIC_BASE_X2APIC;
}

/// Switches a vCPU's APIC on, and the vCPU itself: all but the first would wait for the first one to wake them.
pub(super) fn switch_on(fd: &VcpuFd) -> Result<(), GuestError> {
    let mut apic = fd.get_lapic().map_err(GuestError::kvm("KVM_GET_LAPIC"))?;
    // The register's second byte.
    apic.regs[APIC_SPURIOUS + 1] |= APIC_ENABLED.cast_signed();
    fd.set_lapic(&apic)
        .map_err(GuestError::kvm("KVM_SET_LAPIC"))?;
    fd.set_mp_state(kvm_mp_state {
        mp_state: KVM_MP_STATE_RUNNABLE,
    })
    .map_err(GuestError::kvm("KVM_SET_MP_STATE"))
}

/// Does what the `out` of a vCPU to a port asks for; `false` if it asks for nothing.
pub(super) fn serve(fd: &VmFd, port: u16, vcpu: u32) -> Result<bool, GuestError> {
    match port {
        IRQ_PORT => pulse(fd, PIC_LINE)?,
        IOAPIC_PORT => pulse(fd, IOAPIC_LINE + vcpu % IOAPIC_LINES)?,
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

fn pulse(fd: &VmFd, line: u32) -> Result<(), GuestError> {
    for active in [true, false] {
        fd.set_irq_line(line, active)
            .map_err(GuestError::kvm("KVM_IRQ_LINE"))?;
    }
    Ok(())
}
