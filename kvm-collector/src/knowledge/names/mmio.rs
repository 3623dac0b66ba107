//! Names of addresses that every PC has its devices at. (Registers of the local APIC: Linux 6.1,
//! arch/x86/include/asm/apicdef.h; of the I/O APIC: arch/x86/include/asm/io_apic.h; of the HPET:
//! arch/x86/include/asm/hpet.h. That they lie there: QEMU 7.2, `info mtree`, machines pc and q35.)

use super::table::{Known, every, find, one, row};

/// What lies at this address of an x86 guest.
pub(crate) fn name(address: u64) -> Option<String> {
    const APIC: u64 = 0xfee0_0000;
    const PAGE: u64 = 0x1000;
    if let Some(register) = address.checked_sub(APIC).filter(|it| *it < PAGE) {
        // Each register has 16 bytes, of which the first four are it.
        let register = apic_register(register & !0xf);
        return Some(
            register.map_or_else(|| "local APIC".into(), |name| format!("local APIC {name}")),
        );
    }
    find(DEVICES, address)
}

/// A register of the local APIC by its distance from where they are mapped. (x2APIC's self-IPI has one, too,
/// though it is not mapped.)
pub(crate) fn apic_register(distance: u64) -> Option<String> {
    find(APIC_REGISTERS, distance)
}

const APIC_REGISTERS: &[Known] = &[
    one(0x20, "ID"),
    one(0x30, "LVR"),
    one(0x80, "TPR"),
    one(0x90, "APR"),
    one(0xa0, "PPR"),
    one(0xb0, "EOI"),
    one(0xd0, "LDR"),
    one(0xe0, "DFR"),
    one(0xf0, "SPIV"),
    every(0x100, 0x170, 0x10, "ISR#"),
    every(0x180, 0x1f0, 0x10, "TMR#"),
    every(0x200, 0x270, 0x10, "IRR#"),
    one(0x280, "ESR"),
    one(0x2f0, "LVTCMCI"),
    one(0x300, "ICR"),
    one(0x310, "ICR2"),
    one(0x320, "LVTT"),
    one(0x330, "LVTTHMR"),
    one(0x340, "LVTPC"),
    one(0x350, "LVT0"),
    one(0x360, "LVT1"),
    one(0x370, "LVTERR"),
    one(0x380, "TMICT"),
    one(0x390, "TMCCT"),
    one(0x3e0, "TDCR"),
    one(0x3f0, "SELF_IPI"),
];

const DEVICES: &[Known] = &[
    row(0xa_0000, 0xb_ffff, "VGA memory"),
    one(0xfec0_0000, "I/O APIC select"),
    row(0xfec0_0001, 0xfec0_000f, "I/O APIC"),
    one(0xfec0_0010, "I/O APIC data"),
    row(0xfec0_0011, 0xfec0_003f, "I/O APIC"),
    one(0xfec0_0040, "I/O APIC EOI"),
    row(0xfec0_0041, 0xfec0_0fff, "I/O APIC"),
    row(0xfed0_0000, 0xfed0_0007, "HPET id, period"),
    row(0xfed0_0010, 0xfed0_0017, "HPET configuration"),
    row(0xfed0_0020, 0xfed0_0027, "HPET status"),
    row(0xfed0_00f0, 0xfed0_00f7, "HPET counter"),
    row(0xfed0_0100, 0xfed0_03ff, "HPET timers"),
    row(0xfed4_0000, 0xfed4_4fff, "TPM"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_register_is_there_twice() {
        crate::knowledge::names::table::assert_no_number_twice(APIC_REGISTERS);
        crate::knowledge::names::table::assert_no_number_twice(DEVICES);
    }

    #[test]
    fn devices_of_a_pc_have_names() {
        for (address, expected) in [
            (0xfee0_00b0, Some("local APIC EOI")),
            (0xfee0_0300, Some("local APIC ICR")),
            (0xfee0_0130, Some("local APIC ISR3")),
            (0xfee0_0040, Some("local APIC")),
            (0xfee0_1000, None),
            (0xfec0_0000, Some("I/O APIC select")),
            (0xfed0_00f0, Some("HPET counter")),
            (0x1000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(name(address).as_deref(), expected, "{address:#x}");
        }
    }
}
