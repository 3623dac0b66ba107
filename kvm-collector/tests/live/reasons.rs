//! Codes of exit reasons, from the processors' manuals: what the collector reads from the kernel is not checked by itself.

use std::{collections::BTreeMap, fs};

use libtest_mimic::Failed;

/// The exits the guest makes, and those that the host's interrupts make.
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

/// The code of a reason the kernel calls `name`.
pub(crate) fn code(name: &str) -> Result<u64, Failed> {
    CODES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, code)| *code)
        .ok_or_else(|| format!("this test knows no code for `{name}`").into())
}

/// Is it one the host causes, not the guest?
pub(crate) fn is_of_host(code: u64) -> bool {
    let is_amd = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" svm"));
    // On AMD interrupt, NMI and SMI; on Intel interrupt and the timer that KVM uses for its own.
    let codes: &[u64] = if is_amd {
        &[0x60, 0x61, 0x62]
    } else {
        &[1, 52]
    };
    codes.contains(&code)
}

/// Without the exits that the host causes: what the guest did.
pub(crate) fn of_guest(mut exits: BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    exits.retain(|code, _| !is_of_host(*code));
    exits
}
