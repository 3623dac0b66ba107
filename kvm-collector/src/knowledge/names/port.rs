//! Names of I/O ports of a PC.
//!
//! Sources: QEMU 7.2, `info mtree` (machines pc and q35 with SeaBIOS; tests/fixtures/qemu has the output);
//! for PC/AT and 8250 registers also Linux 6.1 and 6.12: arch/x86/include/asm/, include/linux/i8253.h,
//! include/video/vga.h and include/uapi/linux/serial_reg.h. Other sources stand beside the entries.

use super::table::{NumberRange, find_name, find_pattern, range, single};

/// First ports of COM1 to COM4. (arch/x86/include/asm/serial.h, `SERIAL_PORT_DFNS`)
pub const SERIAL_PORTS: [u64; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

/// Number of I/O ports of each serial port.
const SERIAL_PORT_SIZE: u64 = 8;

/// Returns the name of the device or register at a port; `out` is true for a write.
#[must_use]
pub fn name(port: u64, out: bool) -> Option<String> {
    if let Some((number, register)) = serial_port(port) {
        return Some(format!("COM{number} {}", uart_register(register, out)));
    }
    match (port, out) {
        (KEYBOARD, true) => Some("keyboard command".into()),
        (KEYBOARD, false) => Some("keyboard status".into()),
        _ => find_name(PORTS, port),
    }
}

/// Returns the name of the device at a port, with `#` in the place of an index. Serial ports and the
/// keyboard controller's command port are not included.
pub(crate) fn device(port: u64) -> Option<&'static str> {
    find_pattern(PORTS, port)
}

/// Returns the number of the serial port that a port belongs to, from 1, and the register.
pub(crate) fn serial_port(port: u64) -> Option<(usize, u64)> {
    SERIAL_PORTS.iter().zip(1..).find_map(|(first, number)| {
        let register = port.checked_sub(*first)?;
        (register < SERIAL_PORT_SIZE).then_some((number, register))
    })
}

/// Returns the name of an 8250's register. Offset 2 is one register for reads and another for writes.
fn uart_register(offset: u64, out: bool) -> &'static str {
    match offset {
        0 => "data",
        1 => "interrupt enable",
        2 if out => "FIFO control",
        2 => "interrupt ID",
        3 => "line control",
        4 => "modem control",
        5 => "line status",
        6 => "modem status",
        _ => "scratch",
    }
}

/// Port of the keyboard controller: commands are written to it, the status is read from it.
const KEYBOARD: u64 = 0x64;

/// Ports with the same name for reads and writes.
pub const PORTS: &[NumberRange] = &[
    // PC/AT: arch/x86/kernel/setup.c, `standard_io_resources`; asm/dma.h, i8259.h, mc146818rtc.h and
    // linux/i8253.h have the registers.
    range(0x00, 0x0f, "DMA"),
    single(0x20, "PIC command"),
    single(0x21, "PIC data"),
    range(0x40, 0x42, "PIT counter #"),
    single(0x43, "PIT mode"),
    single(0x60, "keyboard data"),
    single(0x61, "speaker, PIT gate"),
    single(0x70, "CMOS/RTC index"),
    single(0x71, "CMOS/RTC data"),
    range(0x7e, 0x7f, "kvmvapic"),
    single(0x80, "POST code, I/O delay"),
    range(0x81, 0x83, "DMA page"),
    single(0x87, "DMA page"),
    range(0x89, 0x8b, "DMA page"),
    single(0x8f, "DMA page"),
    single(0x92, "A20, reset"),
    single(0xa0, "PIC 2 command"),
    single(0xa1, "PIC 2 data"),
    single(0xb2, "APM command (SMI)"),
    single(0xb3, "APM status"),
    range(0xc0, 0xdf, "DMA 2"),
    // QEMU, default of isa-debugcon.
    single(0xe9, "debug console"),
    single(0xf0, "FPU error"),
    // Set by kvm-unit-tests (x86/run, isa-debug-exit,iobase=0xf4).
    single(0xf4, "debug exit"),
    range(0x170, 0x177, "IDE 2"),
    single(0x1ce, "VBE index"),
    range(0x1cf, 0x1d0, "VBE data"),
    range(0x1f0, 0x1f7, "IDE 1"),
    // IDE and VGA: QEMU, machine pc; floppy: include/uapi/linux/fdreg.h, base 0x3f0.
    single(0x376, "IDE 2 control"),
    range(0x378, 0x37f, "LPT1"),
    range(0x3b4, 0x3b5, "VGA CRTC"),
    single(0x3ba, "VGA status"),
    range(0x3c0, 0x3cf, "VGA"),
    range(0x3d4, 0x3d5, "VGA CRTC"),
    single(0x3da, "VGA status"),
    range(0x3f0, 0x3f5, "floppy"),
    single(0x3f6, "IDE 1 control"),
    single(0x3f7, "floppy"),
    // Debug port of SeaBIOS and OVMF (isa-debugcon,iobase=0x402).
    single(0x402, "firmware debug console"),
    range(0x4d0, 0x4d1, "PIC ELCR"),
    // QEMU, defaults of isa-debug-exit and pvpanic.
    range(0x501, 0x502, "debug exit"),
    single(0x505, "pvpanic"),
    single(0x510, "fw_cfg select"),
    single(0x511, "fw_cfg data"),
    range(0x514, 0x51b, "fw_cfg DMA"),
    // SeaBIOS on the machine pc, and any firmware on q35 (ICH9_PMIO_BASE).
    range(0x600, 0x603, "ACPI PM1 event"),
    range(0x604, 0x605, "ACPI PM1 control"),
    range(0x608, 0x60b, "ACPI PM timer"),
    range(0x620, 0x62f, "ACPI GPE0"),
    range(0x630, 0x637, "ACPI SMI"),
    range(0x660, 0x67f, "TCO watchdog"),
    range(0x700, 0x73f, "SMBus"),
    range(0xcc0, 0xcd7, "ACPI PCI hotplug"),
    range(0xcd8, 0xcf7, "ACPI CPU hotplug"),
    single(0xcf8, "PCI config address"),
    single(0xcf9, "reset control"),
    range(0xcfc, 0xcff, "PCI config data"),
    // VMWARE_HYPERVISOR_PORT in arch/x86/include/asm/vmware.h.
    single(0x5658, "VMware backdoor"),
    range(0xae00, 0xae17, "ACPI PCI hotplug"),
    range(0xaf00, 0xaf1f, "ACPI CPU hotplug"),
    range(0xafe0, 0xafe3, "ACPI GPE0"),
    // OVMF on the machine pc (edk2, OvmfPkg/Include/OvmfPlatforms.h, PIIX4_PMBA_VALUE).
    range(0xb000, 0xb003, "ACPI PM1 event"),
    range(0xb004, 0xb005, "ACPI PM1 control"),
    range(0xb008, 0xb00b, "ACPI PM timer"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_has_two_names() {
        crate::knowledge::names::table::assert_no_duplicates(PORTS);
        for first in SERIAL_PORTS {
            for port in first..first + SERIAL_PORT_SIZE {
                assert_eq!(device(port), None, "{port:#x}");
            }
        }
    }

    #[test]
    fn ports_have_names() {
        for (port, out, expected) in [
            (0x3f8, true, Some("COM1 data")),
            (0x3fd, false, Some("COM1 line status")),
            (0x2fa, true, Some("COM2 FIFO control")),
            (0x2fa, false, Some("COM2 interrupt ID")),
            (0x64, false, Some("keyboard status")),
            (0x41, true, Some("PIT counter 1")),
            (0x608, false, Some("ACPI PM timer")),
            (0xb008, false, Some("ACPI PM timer")),
            (0xcfe, false, Some("PCI config data")),
            (0x5658, false, Some("VMware backdoor")),
            (0xc040, true, None),
        ] {
            assert_eq!(name(port, out).as_deref(), expected, "{port:#x}");
        }
    }
}
