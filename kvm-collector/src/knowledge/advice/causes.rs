//! Advice by the cause of an exit: the register, port, address or call that it is about. Causes are
//! recognized by their names in [`names`](crate::knowledge::names), so that each number is defined once.

use super::{
    reasons,
    subject::{Cause, Isa, TimeBreakdown},
    topics::{self, Topic},
};
use crate::knowledge::names::{hypercall, mmio, msr, port, userspace};

/// Names from one table, and the advice on them.
type Rule = (&'static [&'static str], Topic);

/// Returns advice on a cause.
pub(super) fn advice(cause: Cause<'_>, time: TimeBreakdown, isa: Isa) -> Option<Topic> {
    let Cause { kind, code, class } = cause;
    match kind {
        "msr" => msr(code),
        "pio" => Some(port(code, time)),
        "mmio" => Some(
            pc_device(code)
                .filter(|_| isa.is_x86())
                .unwrap_or_else(|| reasons::mmio(time)),
        ),
        "cpuid" => Some(topics::CPUID),
        "page-fault" => Some(topics::FAULTS),
        "hypercall" => Some(hypercall(code)),
        "userspace" => match userspace::error(class) {
            Some(error) => (error == userspace::EINTR).then_some(topics::SIGNALS),
            None => find(USERSPACE, &userspace::name(code, class)?),
        },
        _ => None,
    }
}

fn find(rules: &[Rule], name: &str) -> Option<Topic> {
    let (_, advice) = rules.iter().find(|(names, _)| names.contains(&name))?;
    Some(*advice)
}

fn msr(msr: u64) -> Option<Topic> {
    if msr::is_x2apic(msr) {
        return Some(local_apic(msr::x2apic_register(msr)));
    }
    find(MSRS, msr::pattern(msr)?)
}

const MSRS: &[Rule] = &[
    (&["HV_ICR"], topics::IPI),
    (
        &["TSC_DEADLINE", "HV_STIMER#_CONFIG", "HV_STIMER#_COUNT"],
        topics::TIMER,
    ),
    (&["HV_EOI", "HV_TPR"], topics::APIC),
    (
        &["SPEC_CTRL", "PRED_CMD", "FLUSH_CMD", "AMD64_VIRT_SPEC_CTRL"],
        topics::MITIGATIONS,
    ),
    (&["TSC", "HV_TIME_REF_COUNT"], topics::CLOCK),
    (
        &[
            "PERFCTR#",
            "ARCH_PERFMON_EVENTSEL#",
            "CORE_PERF_FIXED_CTR#",
            "CORE_PERF_FIXED_CTR_CTRL",
            "CORE_PERF_GLOBAL_STATUS",
            "CORE_PERF_GLOBAL_CTRL",
            "CORE_PERF_GLOBAL_OVF_CTRL",
            "PMC#",
            "AMD64_PERF_CNTR_GLOBAL_STATUS",
            "AMD64_PERF_CNTR_GLOBAL_CTL",
            "AMD64_PERF_CNTR_GLOBAL_STATUS_CLR",
            "AMD64_PERF_CNTR_GLOBAL_STATUS_SET",
            "K7_EVNTSEL#",
            "K7_PERFCTR#",
            "F15H_PERF_CTL#",
            "F15H_PERF_CTR#",
        ],
        topics::PMU,
    ),
];

/// Advice on a register of the local APIC, by MSR or by memory. Unknown registers have no name.
fn local_apic(register: Option<String>) -> Topic {
    register
        .and_then(|name| find(LOCAL_APIC, &name))
        .unwrap_or(topics::APIC)
}

const LOCAL_APIC: &[Rule] = &[
    (&["ICR", "ICR2", "SELF_IPI"], topics::IPI),
    (&["LVTT", "TMICT", "TMCCT"], topics::TIMER),
];

fn port(port: u64, time: TimeBreakdown) -> Topic {
    if port::serial_port(port).is_some() {
        return topics::SERIAL;
    }
    port::device(port)
        .and_then(|name| find(PORTS, name))
        .unwrap_or_else(|| reasons::io(time))
}

const PORTS: &[Rule] = &[
    (
        &[
            "PIT counter #",
            "PIT mode",
            "speaker, PIT gate",
            "CMOS/RTC index",
            "CMOS/RTC data",
            "ACPI PM timer",
        ],
        topics::CLOCK,
    ),
    (
        &["IDE 1", "IDE 1 control", "IDE 2", "IDE 2 control"],
        topics::IDE,
    ),
    (
        &["PCI config address", "PCI config data"],
        topics::PCI_CONFIG,
    ),
    (
        &[
            "POST code, I/O delay",
            "debug console",
            "firmware debug console",
        ],
        topics::DEBUG_PORT,
    ),
    (
        &["VBE index", "VBE data", "VGA", "VGA CRTC", "VGA status"],
        topics::VGA,
    ),
];

/// Advice on a device that every PC has at the same address.
fn pc_device(address: u64) -> Option<Topic> {
    if let Some(offset) = mmio::local_apic_offset(address) {
        return Some(local_apic(mmio::local_apic_register(offset)));
    }
    find(DEVICES, mmio::device(address)?)
}

const DEVICES: &[Rule] = &[
    (
        &[
            "HPET ID, period",
            "HPET configuration",
            "HPET status",
            "HPET counter",
            "HPET timers",
        ],
        topics::CLOCK,
    ),
    (&["VGA memory"], topics::VGA),
];

fn hypercall(number: u64) -> Topic {
    match hypercall::name(number) {
        Some(name) if name == hypercall::SEND_IPI => topics::IPI,
        _ => topics::HYPERCALL,
    }
}

const USERSPACE: &[Rule] = &[
    (&["KVM_EXIT_IO"], topics::IO_VMM),
    (&["KVM_EXIT_HLT"], topics::HALT_IN_VMM),
    (&["KVM_EXIT_MMIO"], topics::MMIO_VMM),
    (&["KVM_EXIT_INTR"], topics::SIGNALS),
    (&["KVM_EXIT_DIRTY_RING_FULL"], topics::DIRTY_LOG),
    (&["KVM_EXIT_X86_BUS_LOCK"], topics::BUS_LOCK),
    (&["KVM_EXIT_NOTIFY"], topics::NOTIFY),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::names::NumberRange;

    fn assert_all_known(rules: &[Rule], known: &[&[NumberRange]]) {
        for name in rules.iter().flat_map(|(names, _)| *names) {
            let mut ranges = known.iter().flat_map(|table| *table);
            let is_known = ranges.any(|range| range.pattern() == *name);
            assert!(is_known, "no table has {name}");
        }
    }

    #[test]
    fn every_name_is_in_a_table() {
        assert_all_known(MSRS, &[msr::MSRS]);
        assert_all_known(LOCAL_APIC, &[mmio::LOCAL_APIC_REGISTERS, msr::X2APIC_ONLY]);
        assert_all_known(PORTS, &[port::PORTS]);
        assert_all_known(DEVICES, &[mmio::DEVICES]);
        assert_all_known(USERSPACE, &[userspace::REASONS]);
    }
}
