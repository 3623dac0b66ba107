//! Codes of exit reasons, from the processors' manuals: a reference for the names that the collector reads from the kernel.

use std::{collections::BTreeMap, fs};

use libtest_mimic::Failed;

/// The reasons of exits that the built-in guest makes and of those that the host's interrupts cause.
const CODES: [(&str, u64); 15] = [
    ("io", 0x7b),
    ("cpuid", 0x72),
    ("msr", 0x7c),
    ("hlt", 0x78),
    ("npf", 0x400),
    ("interrupt", 0x60),
    ("IO_INSTRUCTION", 30),
    ("CPUID", 10),
    ("MSR_READ", 31),
    ("MSR_WRITE", 32),
    ("HLT", 12),
    ("EPT_VIOLATION", 48),
    ("EPT_MISCONFIG", 49),
    ("EXTERNAL_INTERRUPT", 1),
    ("PREEMPTION_TIMER", 52),
];

/// The code of the reason that the kernel calls `name`.
pub(crate) fn reason_code(name: &str) -> Result<u64, Failed> {
    CODES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, code)| *code)
        .ok_or_else(|| format!("exit reason `{name}` is not in the table of these tests").into())
}

/// Whether the host causes exits with this reason, not the guest.
pub(crate) fn is_caused_by_host(code: u64) -> bool {
    let is_amd = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" svm"));
    // AMD: interrupt, NMI and SMI. Intel: interrupt and the preemption timer, which KVM uses itself.
    let codes: &[u64] = if is_amd {
        &[0x60, 0x61, 0x62]
    } else {
        &[1, 52]
    };
    codes.contains(&code)
}

/// Removes the exits that the host causes; those of the guest are left.
pub(crate) fn without_host_exits(mut exits: BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    exits.retain(|code, _| !is_caused_by_host(*code));
    exits
}
