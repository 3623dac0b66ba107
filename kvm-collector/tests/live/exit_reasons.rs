//! Codes of exit reasons, from the processors' manuals: a reference for the names that the collector reads from the kernel.

use std::collections::BTreeMap;

use kvm_collector::guest::{Isa, Kind};
use libtest_mimic::Failed;

/// The reasons of exits that the built-in guest makes and of those that the host's interrupts cause.
const CODES: [(&str, u64); 29] = [
    ("io", 0x7b),
    ("cpuid", 0x72),
    ("msr", 0x7c),
    ("hlt", 0x78),
    ("npf", 0x400),
    ("interrupt", 0x60),
    ("write_cr4", 0x14),
    ("UD excp", 0x46),
    ("invd", 0x76),
    ("shutdown", 0x7f),
    ("hypercall", 0x81),
    ("wbinvd", 0x89),
    ("xsetbv", 0x8d),
    ("IO_INSTRUCTION", 30),
    ("CPUID", 10),
    ("MSR_READ", 31),
    ("MSR_WRITE", 32),
    ("HLT", 12),
    ("EPT_VIOLATION", 48),
    ("EPT_MISCONFIG", 49),
    ("EXTERNAL_INTERRUPT", 1),
    ("PREEMPTION_TIMER", 52),
    ("EXCEPTION_NMI", 0),
    ("TRIPLE_FAULT", 2),
    ("INVD", 13),
    ("VMCALL", 18),
    ("CR_ACCESS", 28),
    ("WBINVD", 54),
    ("XSETBV", 55),
];

/// The code of the reason that the kernel calls `name`.
pub(crate) fn reason_code(name: &str) -> Result<u64, Failed> {
    CODES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, code)| *code)
        .ok_or_else(|| format!("exit reason `{name}` is not in the table of these tests").into())
}

/// The name that the kernel has on this processor for the exits of a kind of the guest.
pub(crate) fn reason_of(kind: Kind) -> Result<&'static str, Failed> {
    let isa = Isa::detect().ok_or("this processor has neither vmx nor svm")?;
    Ok(kind.exit_reason(isa, 1))
}

/// Whether the host causes exits with this reason, not the guest.
pub(crate) fn is_caused_by_host(code: u64) -> bool {
    // AMD: interrupt, NMI and SMI. Intel: interrupt and the preemption timer, which KVM uses itself.
    let codes: &[u64] = match Isa::detect() {
        Some(Isa::Svm) => &[0x60, 0x61, 0x62],
        Some(Isa::Vmx) | None => &[1, 52],
    };
    codes.contains(&code)
}

/// Removes the exits that the host causes; those of the guest are left.
pub(crate) fn without_host_exits(mut exits: BTreeMap<u64, u64>) -> BTreeMap<u64, u64> {
    exits.retain(|code, _| !is_caused_by_host(*code));
    exits
}
