//! Comparison of ports and addresses with the headers and with QEMU.

use std::collections::{BTreeMap, BTreeSet};

use kvm_collector::knowledge::names::{mmio, port};

use crate::{
    headers::Kernel,
    tables::{compare_entry, numbers},
};

/// Ports with a constant in the headers, and their names.
const PORTS: &[(&str, &str)] = &[
    ("IO_DMA1_BASE", "DMA"),
    ("DMA1_MASK_ALL_REG", "DMA"),
    ("PIC_MASTER_CMD", "PIC command"),
    ("PIC_MASTER_IMR", "PIC data"),
    ("PIT_CH0", "PIT counter 0"),
    ("PIT_CH2", "PIT counter 2"),
    ("PIT_MODE", "PIT mode"),
    ("DMA_PAGE_0", "DMA page"),
    ("DMA_PAGE_1", "DMA page"),
    ("DMA_PAGE_2", "DMA page"),
    ("DMA_PAGE_3", "DMA page"),
    ("DMA_PAGE_5", "DMA page"),
    ("DMA_PAGE_6", "DMA page"),
    ("DMA_PAGE_7", "DMA page"),
    ("PIC_SLAVE_CMD", "PIC 2 command"),
    ("PIC_SLAVE_IMR", "PIC 2 data"),
    ("IO_DMA2_BASE", "DMA 2"),
    ("DMA2_MASK_ALL_REG", "DMA 2"),
    ("VGA_CRT_IM", "VGA CRTC"),
    ("VGA_CRT_DM", "VGA CRTC"),
    ("VGA_IS1_RM", "VGA status"),
    ("VGA_ATT_IW", "VGA"),
    ("VGA_MIS_R", "VGA"),
    ("VGA_GFX_D", "VGA"),
    ("VGA_CRT_IC", "VGA CRTC"),
    ("VGA_CRT_DC", "VGA CRTC"),
    ("VGA_IS1_RC", "VGA status"),
    ("PIC_ELCR1", "PIC ELCR"),
    ("PIC_ELCR2", "PIC ELCR"),
    ("VMWARE_HYPERVISOR_PORT", "VMware backdoor"),
];

/// Registers of serial ports: constant, name for reads, name for writes.
const UART: &[(&str, &str, &str)] = &[
    ("UART_RX", "data", "data"),
    ("UART_IER", "interrupt enable", "interrupt enable"),
    ("UART_IIR", "interrupt ID", "FIFO control"),
    ("UART_LCR", "line control", "line control"),
    ("UART_MCR", "modem control", "modem control"),
    ("UART_LSR", "line status", "line status"),
    ("UART_MSR", "modem status", "modem status"),
    ("UART_SCR", "scratch", "scratch"),
];

/// First port of the first floppy controller. The registers of include/uapi/linux/fdreg.h follow it.
const FLOPPY: u64 = 0x3f0;

/// Registers of the HPET, and their names.
const HPET: &[(&str, &str)] = &[
    ("HPET_ID", "HPET ID, period"),
    ("HPET_PERIOD", "HPET ID, period"),
    ("HPET_CFG", "HPET configuration"),
    ("HPET_STATUS", "HPET status"),
    ("HPET_COUNTER", "HPET counter"),
    ("HPET_T0_CFG", "HPET timers"),
    ("HPET_T2_ROUTE", "HPET timers"),
];

/// Address of the HPET, from QEMU's `info mtree`.
const HPET_BASE: u64 = 0xfed0_0000;

/// Collects the names that differ from the expected ones.
#[derive(Debug, Default)]
struct Differences(BTreeSet<String>);

impl Differences {
    fn expect_port(&mut self, constant: &str, port: Option<u64>, out: bool, expected: &str) {
        let found = port.and_then(|it| port::name(it, out));
        self.expect("port", constant, port, found, expected);
    }

    fn expect_address(&mut self, constant: &str, address: Option<u64>, expected: &str) {
        let found = address.and_then(mmio::name);
        self.expect("address", constant, address, found, expected);
    }

    fn expect(
        &mut self,
        what: &str,
        constant: &str,
        number: Option<u64>,
        found: Option<String>,
        expected: &str,
    ) {
        let Some(number) = number else {
            self.0.insert(format!("no header defines {constant}"));
            return;
        };
        let found = found.unwrap_or_else(|| "without a name".to_owned());
        if found != expected {
            self.0.insert(format!(
                "{what} {number:#x} ({constant}) is {found}, not {expected}"
            ));
        }
    }
}

/// Compares ports and addresses with the constants of the headers.
pub(crate) fn compare(kernels: &[Kernel]) -> Vec<String> {
    let mut differences = Differences::default();
    for kernel in kernels {
        for (constant, expected) in PORTS {
            differences.expect_port(constant, kernel.value(constant), false, expected);
        }
        for (index, name) in [(0, "CMOS/RTC index"), (1, "CMOS/RTC data")] {
            differences.expect_port("RTC_PORT", kernel.value_at("RTC_PORT", index), false, name);
        }
        for constant in ["FD_SRA", "FD_DOR", "FD_STATUS", "FD_DATA", "FD_DIR"] {
            let port = kernel.value(constant).map(|it| FLOPPY + it);
            differences.expect_port(constant, port, false, "floppy");
        }
        compare_serial_ports(kernel, &mut differences);
        for (constant, expected) in HPET {
            let address = kernel.value(constant).map(|it| HPET_BASE + it);
            differences.expect_address(constant, address, expected);
        }
        for (constant, expected) in [
            ("VGA_FB_PHYS_BASE", "VGA memory"),
            ("IO_APIC_DEFAULT_PHYS_BASE", "I/O APIC select"),
        ] {
            differences.expect_address(constant, kernel.value(constant), expected);
        }
        if kernel.value("APIC_DEFAULT_PHYS_BASE") != Some(mmio::LOCAL_APIC) {
            let text = format!("the local APIC is not at {:#x}", mmio::LOCAL_APIC);
            differences.0.insert(text);
        }
    }
    for (offset, name) in numbers(mmio::LOCAL_APIC_REGISTERS) {
        let of_register = compare_local_apic(kernels, offset, &name);
        differences.0.extend(of_register);
    }
    differences.0.into_iter().collect()
}

fn compare_serial_ports(kernel: &Kernel, differences: &mut Differences) {
    // `{ .uart = 0, BASE_BAUD, 0x3F8, 4, STD_COMX_FLAGS }` for each serial port
    let body = kernel.body("SERIAL_PORT_DFNS");
    let ports: Vec<_> = body
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect();
    if ports != port::SERIAL_PORTS {
        let text = format!(
            "serial ports are at {:x?}, in Linux {} at {ports:x?}",
            port::SERIAL_PORTS,
            kernel.version
        );
        differences.0.insert(text);
    }
    for (number, first) in (1..).zip(ports) {
        for (constant, read, written) in UART {
            let port = kernel.value(constant).map(|it| first + it);
            differences.expect_port(constant, port, false, &format!("COM{number} {read}"));
            differences.expect_port(constant, port, true, &format!("COM{number} {written}"));
        }
    }
}

/// The headers name only the first of the ISR, TMR and IRR registers.
fn compare_local_apic(kernels: &[Kernel], offset: u64, name: &str) -> Vec<String> {
    for first in ["ISR", "TMR", "IRR"] {
        if let Some(index) = name
            .strip_prefix(first)
            .and_then(|it| it.parse::<u64>().ok())
        {
            return compare_entry(
                kernels,
                offset - 16 * index,
                first,
                &[format!("APIC_{first}")],
            );
        }
    }
    compare_entry(kernels, offset, name, &[format!("APIC_{name}")])
}

/// Output of QEMU's `info mtree`.
const MACHINES: [&str; 2] = [
    include_str!("../fixtures/qemu/7.2-pc.mtree"),
    include_str!("../fixtures/qemu/7.2-q35.mtree"),
];

/// Names of QEMU's regions, and the names of the ports or addresses in them.
const REGIONS: &[(&str, &[&str])] = &[
    ("dma-chan", &["DMA", "DMA 2"]),
    ("dma-cont", &["DMA", "DMA 2"]),
    (
        "pic",
        &["PIC command", "PIC data", "PIC 2 command", "PIC 2 data"],
    ),
    ("pit", &["PIT counter #", "PIT mode"]),
    ("i8042-data", &["keyboard data"]),
    ("pcspk", &["speaker, PIT gate"]),
    ("rtc", &["CMOS/RTC index", "CMOS/RTC data"]),
    ("kvmvapic", &["kvmvapic"]),
    ("ioport80", &["POST code, I/O delay"]),
    ("dma-page", &["DMA page"]),
    ("port92", &["A20, reset"]),
    ("apm-io", &["APM command (SMI)", "APM status"]),
    ("ioportF0", &["FPU error"]),
    ("ide", &["IDE 1", "IDE 1 control", "IDE 2", "IDE 2 control"]),
    ("vbe", &["VBE index", "VBE data"]),
    ("parallel", &["LPT1"]),
    ("vga", &["VGA", "VGA CRTC", "VGA status"]),
    ("fdc", &["floppy"]),
    ("isa-debugcon", &["firmware debug console"]),
    ("elcr", &["PIC ELCR"]),
    ("isa-debug-exit", &["debug exit"]),
    ("pvpanic", &["pvpanic"]),
    ("fwcfg", &["fw_cfg select", "fw_cfg data"]),
    ("fwcfg.dma", &["fw_cfg DMA"]),
    ("acpi-evt", &["ACPI PM1 event"]),
    ("acpi-cnt", &["ACPI PM1 control"]),
    ("acpi-tmr", &["ACPI PM timer"]),
    ("acpi-gpe0", &["ACPI GPE0"]),
    ("acpi-smi", &["ACPI SMI"]),
    ("sm-tco", &["TCO watchdog"]),
    ("pm-smbus", &["SMBus"]),
    ("acpi-pci-hotplug", &["ACPI PCI hotplug"]),
    ("acpi-cpu-hotplug", &["ACPI CPU hotplug"]),
    ("pci-conf-idx", &["PCI config address"]),
    ("piix3-reset-control", &["reset control"]),
    ("lpc-reset-control", &["reset control"]),
    ("pci-conf-data", &["PCI config data"]),
    ("vmport", &["VMware backdoor"]),
    ("vga-lowmem", &["VGA memory"]),
    (
        "ioapic",
        &[
            "I/O APIC",
            "I/O APIC select",
            "I/O APIC data",
            "I/O APIC EOI",
        ],
    ),
    (
        "hpet",
        &[
            "HPET ID, period",
            "HPET configuration",
            "HPET status",
            "HPET counter",
            "HPET timers",
        ],
    ),
];

/// Ports and addresses that these machines do not have. kvm-collector/src/knowledge/names has their sources.
const NOT_IN_QEMU: &[(u64, u64)] = &[
    // isa-debugcon and isa-debug-exit at other ports than in the fixtures.
    (0xe9, 0xe9),
    (0xf4, 0xf4),
    // Status register A of the floppy controller, which QEMU leaves out.
    (FLOPPY, FLOPPY),
    // With OVMF as the firmware.
    (0xb000, 0xb00b),
    // Needs a TPM on the host.
    (0xfed4_0000, 0xfed4_4fff),
];

/// A region of an address space.
#[derive(Debug)]
struct Region {
    first: u64,
    last: u64,
    name: String,
}

/// Returns the regions of I/O and of memory.
fn regions(mtree: &str) -> [Vec<Region>; 2] {
    let (io, memory) = mtree
        .split_once("address-space: memory")
        .expect("two address spaces");
    [io, memory].map(|text| {
        let lines = text.lines().filter_map(|line| {
            let (range, rest) = line.trim().split_once(' ')?;
            let (first, last) = range.split_once('-')?;
            let name = rest.split_once(": ")?.1;
            Some(Region {
                first: u64::from_str_radix(first, 16).ok()?,
                last: u64::from_str_radix(last, 16).ok()?,
                name: name.to_owned(),
            })
        });
        lines.collect()
    })
}

/// Checks that every port and address of the tables belongs to the right device of QEMU, and that all devices have names.
pub(crate) fn compare_with_qemu() -> Vec<String> {
    let mut io = Vec::new();
    let mut memory = Vec::new();
    for machine in MACHINES {
        let [ports, addresses] = regions(machine);
        io.extend(ports);
        memory.extend(addresses);
    }
    assert!(io.len() > 100 && memory.len() > 10);
    let mut differences = BTreeSet::new();
    for (table, regions) in [(port::PORTS, &io), (mmio::DEVICES, &memory)] {
        for range in table {
            for (number, _) in range.names() {
                if let Some(difference) = compare_number(number, range.pattern(), regions) {
                    // Only the first difference of each name is reported, because ranges can be large.
                    differences.insert((range.pattern(), difference));
                }
            }
        }
    }
    let mut first_of_each: BTreeMap<_, _> = BTreeMap::new();
    for (name, difference) in differences {
        first_of_each.entry(name).or_insert(difference);
    }
    let mut differences: Vec<_> = first_of_each.into_values().collect();
    // The BARs of PCI devices start here.
    const PCI: u64 = 0xc000;
    for region in io.iter().filter(|it| it.first < PCI && it.name != "io") {
        if port::name(region.first, false).is_none() {
            differences.push(format!("{region:x?} of QEMU has no name"));
        }
    }
    differences
}

fn compare_number(number: u64, name: &str, regions: &[Region]) -> Option<String> {
    if NOT_IN_QEMU
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&number))
    {
        return None;
    }
    let names: Vec<_> = regions
        .iter()
        .filter(|it| (it.first..=it.last).contains(&number))
        .map(|it| it.name.as_str())
        .collect();
    let is_right = names.iter().any(|region| {
        REGIONS
            .iter()
            .any(|(qemu_region, names)| qemu_region == region && names.contains(&name))
    });
    (!is_right).then(|| format!("{number:#x} is {name}, in QEMU it is in {names:?}"))
}
