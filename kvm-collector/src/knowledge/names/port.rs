//! Names of I/O ports. (QEMU 7.2, `info mtree`, machines pc and q35 with SeaBIOS; the ACPI registers from
//! 0xb000: OVMF on the machine pc, edk2 OvmfPkg/Include/OvmfPlatforms.h; 8250 registers: Linux 6.1,
//! include/uapi/linux/serial_reg.h.)

use super::table::{Known, find, one, row};

/// What the port belongs to.
pub(crate) fn name(port: u64, out: bool) -> Option<String> {
    for (base, com) in [(0x3f8, 1), (0x2f8, 2), (0x3e8, 3), (0x2e8, 4)] {
        if let Some(register) = port.checked_sub(base).filter(|it| *it < 8) {
            return Some(format!("COM{com} {}", uart(register, out)));
        }
    }
    match (port, out) {
        (0x64, true) => Some("keyboard command".into()),
        (0x64, false) => Some("keyboard status".into()),
        _ => find(PORTS, port),
    }
}

fn uart(register: u64, out: bool) -> &'static str {
    match register {
        0 => "data",
        1 => "interrupt enable",
        2 if out => "FIFO control",
        2 => "interrupt id",
        3 => "line control",
        4 => "modem control",
        5 => "line status",
        6 => "modem status",
        _ => "scratch",
    }
}

const PORTS: &[Known] = &[
    row(0x00, 0x0f, "DMA"),
    one(0x20, "PIC command"),
    one(0x21, "PIC data"),
    row(0x40, 0x42, "PIT counter #"),
    one(0x43, "PIT mode"),
    one(0x60, "keyboard data"),
    one(0x61, "speaker, PIT gate"),
    one(0x70, "CMOS/RTC index"),
    one(0x71, "CMOS/RTC data"),
    row(0x7e, 0x7f, "kvmvapic"),
    one(0x80, "POST code, I/O delay"),
    row(0x81, 0x83, "DMA page"),
    one(0x87, "DMA page"),
    row(0x89, 0x8b, "DMA page"),
    one(0x8f, "DMA page"),
    one(0x92, "A20, reset"),
    one(0xa0, "PIC 2 command"),
    one(0xa1, "PIC 2 data"),
    one(0xb2, "APM command (SMI)"),
    one(0xb3, "APM status"),
    row(0xc0, 0xdf, "DMA 2"),
    one(0xe9, "debug console"),
    one(0xf0, "FPU error"),
    // No device has this by default, but tests put isa-debug-exit there.
    one(0xf4, "debug exit"),
    row(0x170, 0x177, "IDE 2"),
    one(0x1ce, "VBE index"),
    row(0x1cf, 0x1d0, "VBE data"),
    row(0x1f0, 0x1f7, "IDE 1"),
    one(0x376, "IDE 2 control"),
    row(0x378, 0x37f, "LPT1"),
    row(0x3b4, 0x3b5, "VGA CRTC"),
    one(0x3ba, "VGA status"),
    row(0x3c0, 0x3cf, "VGA"),
    row(0x3d4, 0x3d5, "VGA CRTC"),
    one(0x3da, "VGA status"),
    row(0x3f0, 0x3f5, "floppy"),
    one(0x3f6, "IDE 1 control"),
    one(0x3f7, "floppy"),
    one(0x402, "firmware debug console"),
    row(0x4d0, 0x4d1, "PIC ELCR"),
    row(0x501, 0x502, "debug exit"),
    one(0x505, "pvpanic"),
    one(0x510, "fw_cfg select"),
    one(0x511, "fw_cfg data"),
    row(0x514, 0x51b, "fw_cfg DMA"),
    row(0x600, 0x603, "ACPI PM1 event"),
    row(0x604, 0x605, "ACPI PM1 control"),
    row(0x608, 0x60b, "ACPI PM timer"),
    row(0x620, 0x62f, "ACPI GPE0"),
    row(0x630, 0x637, "ACPI SMI"),
    row(0x660, 0x67f, "TCO watchdog"),
    row(0x700, 0x73f, "SMBus"),
    row(0xcc0, 0xcd7, "ACPI PCI hotplug"),
    row(0xcd8, 0xcf7, "ACPI CPU hotplug"),
    one(0xcf8, "PCI config address"),
    one(0xcf9, "reset control"),
    row(0xcfc, 0xcff, "PCI config data"),
    one(0x5658, "VMware backdoor"),
    row(0xae00, 0xae17, "ACPI PCI hotplug"),
    row(0xaf00, 0xaf1f, "ACPI CPU hotplug"),
    row(0xafe0, 0xafe3, "ACPI GPE0"),
    row(0xb000, 0xb003, "ACPI PM1 event"),
    row(0xb004, 0xb005, "ACPI PM1 control"),
    row(0xb008, 0xb00b, "ACPI PM timer"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_there_twice() {
        crate::knowledge::names::table::assert_no_number_twice(PORTS);
        for base in [0x3f8, 0x2f8, 0x3e8, 0x2e8] {
            for port in base..base + 8 {
                assert_eq!(find(PORTS, port), None, "{port:#x}");
            }
        }
    }

    #[test]
    fn ports_have_names() {
        for (port, out, expected) in [
            (0x3f8, true, Some("COM1 data")),
            (0x3fd, false, Some("COM1 line status")),
            (0x2fa, true, Some("COM2 FIFO control")),
            (0x2fa, false, Some("COM2 interrupt id")),
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
