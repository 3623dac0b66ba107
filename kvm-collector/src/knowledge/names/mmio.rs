//! Names of the memory addresses at which every PC has the same device.
//!
//! Sources, Linux 6.1 and 6.12: registers of the local APIC, arch/x86/include/asm/apicdef.h; of the
//! I/O APIC, `struct io_apic` in arch/x86/kernel/apic/io_apic.c; of the HPET,
//! arch/x86/include/asm/hpet.h; the VGA window, include/video/vga.h; the TPM, drivers/char/tpm/tpm_tis.c.
//! The sizes of the regions: QEMU 7.2, `info mtree` (machines pc and q35).

use super::table::{NumberRange, find_name, find_pattern, range, single, stepped};

/// Where the local APIC is mapped: `APIC_DEFAULT_PHYS_BASE`.
pub const LOCAL_APIC: u64 = 0xfee0_0000;

/// Size of the local APIC's page.
const LOCAL_APIC_SIZE: u64 = 0x1000;

/// Distance between two registers of the local APIC. Only the first four bytes are used.
const LOCAL_APIC_STRIDE: u64 = 0x10;

/// Returns the name of the device or register at an address of an x86 guest.
#[must_use]
pub fn name(address: u64) -> Option<String> {
    let Some(offset) = local_apic_offset(address) else {
        return find_name(DEVICES, address);
    };
    let register = local_apic_register(offset);
    Some(register.map_or_else(|| "local APIC".into(), |name| format!("local APIC {name}")))
}

/// Returns the name of the device at an address, with `#` in the place of an index. The local APIC is
/// not included: see [`local_apic_offset`].
pub(crate) fn device(address: u64) -> Option<&'static str> {
    find_pattern(DEVICES, address)
}

/// Returns the offset of an address in the local APIC, rounded down to the register.
pub(crate) fn local_apic_offset(address: u64) -> Option<u64> {
    let offset = address.checked_sub(LOCAL_APIC)?;
    (offset < LOCAL_APIC_SIZE).then_some(offset & !(LOCAL_APIC_STRIDE - 1))
}

/// Returns the name of a register of the local APIC.
pub(crate) fn local_apic_register(offset: u64) -> Option<String> {
    find_name(LOCAL_APIC_REGISTERS, offset)
}

/// Registers of the local APIC that x2APIC has, too, by their offset.
pub const LOCAL_APIC_REGISTERS: &[NumberRange] = &[
    single(0x20, "ID"),
    single(0x30, "LVR"),
    single(0x80, "TASKPRI"),
    single(0x90, "ARBPRI"),
    single(0xa0, "PROCPRI"),
    single(0xb0, "EOI"),
    single(0xd0, "LDR"),
    single(0xe0, "DFR"),
    single(0xf0, "SPIV"),
    stepped(0x100, 0x170, 0x10, "ISR#"),
    stepped(0x180, 0x1f0, 0x10, "TMR#"),
    stepped(0x200, 0x270, 0x10, "IRR#"),
    single(0x280, "ESR"),
    single(0x2f0, "LVTCMCI"),
    single(0x300, "ICR"),
    single(0x310, "ICR2"),
    single(0x320, "LVTT"),
    single(0x330, "LVTTHMR"),
    single(0x340, "LVTPC"),
    single(0x350, "LVT0"),
    single(0x360, "LVT1"),
    single(0x370, "LVTERR"),
    single(0x380, "TMICT"),
    single(0x390, "TMCCT"),
    single(0x3e0, "TDCR"),
];

/// Devices with a fixed address.
pub const DEVICES: &[NumberRange] = &[
    range(0xa_0000, 0xb_ffff, "VGA memory"),
    single(0xfec0_0000, "I/O APIC select"),
    range(0xfec0_0001, 0xfec0_000f, "I/O APIC"),
    single(0xfec0_0010, "I/O APIC data"),
    range(0xfec0_0011, 0xfec0_003f, "I/O APIC"),
    single(0xfec0_0040, "I/O APIC EOI"),
    range(0xfec0_0041, 0xfec0_0fff, "I/O APIC"),
    range(0xfed0_0000, 0xfed0_0007, "HPET ID, period"),
    range(0xfed0_0010, 0xfed0_0017, "HPET configuration"),
    range(0xfed0_0020, 0xfed0_0027, "HPET status"),
    range(0xfed0_00f0, 0xfed0_00f7, "HPET counter"),
    range(0xfed0_0100, 0xfed0_03ff, "HPET timers"),
    range(0xfed4_0000, 0xfed4_4fff, "TPM"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_has_two_names() {
        crate::knowledge::names::table::assert_no_duplicates(LOCAL_APIC_REGISTERS);
        crate::knowledge::names::table::assert_no_duplicates(DEVICES);
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
