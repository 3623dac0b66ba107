//! What tests need to know about the exits and events of VMX and SVM.

use kvm_collector::guest::Isa;

/// The field of `kvm_exit` with the code of the reason.
pub(crate) const REASON_FIELD: &str = "exit_reason";

/// The reasons of exits that the built-in guest makes and of those that the host's interrupts cause: codes from the
/// processors' manuals.
pub(crate) const REASON_CODES: [(&str, u64); 29] = [
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

/// The kinds whose exits do not depend on interrupts. The reasons depend on the processor: `mmio` alone causes `npf` on AMD,
/// and EPT_VIOLATION and EPT_MISCONFIG on Intel.
pub(crate) const KINDS_WITHOUT_INTERRUPTS: &str = "io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,hypercall,page-fault,wbinvd,\
     xsetbv,ud,exception,cr,triple-fault";

/// The guest makes exits with at least this many reasons with all of these kinds.
pub(crate) const MIN_REASONS: usize = 10;

/// Reasons that not every kernel has: on AMD, `xsetbv` causes exits on Linux 6.1 and 6.12, and none on 5.10 and 7.2.
pub(crate) const OPTIONAL_REASONS: [u64; 1] = [0x8d];

/// Kinds that have an exit reason each.
pub(crate) const KINDS: &str = "io,cpuid,mmio,msr,hlt";

/// The arguments of guests that make many different events.
pub(crate) const GUESTS: &[&str] = &[
    "--mode long -n 30 -k io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,page-fault,wbinvd",
    "--mode real -n 30 -k io,io-read,cpuid,mmio,mmio-read,msr,msr-read,hlt,page-fault,wbinvd",
    "--mode long -n 30 --vms 2 --vcpus 2 -k page-fault,cpuid,io",
    "--mode real -n 30 --vcpus 2 -k page-fault,cpuid,hlt",
    "--mode long -n 20 -k mmio,hlt --sleep 1ms",
    "--mode long -n 0",
    "--mode long -n 20 -k exception,cr,pvclock,dirty,apic,apic-read,ipi,timer,pit,irq,ioapic,msi",
    "--mode real -n 20 -k exception,cr,pvclock,dirty,apic,apic-read,ipi,timer,pit,irq,ioapic,msi",
    "--mode long -n 20 --vcpus 2 -k ipi,timer,irq,ioapic,msi,dirty,page-fault",
];

/// One more of them, if this processor has a hypercall instruction.
pub(crate) const GUEST_WITH_HYPERCALL: &str = "-n 30 -k hypercall";

/// The guests cause at least this many different events.
pub(crate) const MIN_EVENTS: usize = 25;

/// `kvm_exit` and `kvm_entry` tell the vCPU.
pub(crate) const VCPUS_FROM_THREAD_NAMES: bool = false;

/// Events that `trace` may print as `name=value`: this one has enumerators of KVM, which Debian's 5.10 does not describe.
pub(crate) const UNDECODED_EVENTS: &[&str] = &["fast_page_fault"];

/// Whether interrupts of the host cause events in vCPU threads.
pub(crate) const INTERRUPTS_HAVE_EVENTS: bool = false;

/// The longest time, in microseconds, that the probe of one tool adds to what the other one measures, under emulation. The tool with
/// the probe that runs first at `kvm_exit` also measures the other's probe.
pub(crate) const PROBE_US: f64 = 8.0;

/// The number of addresses that a guest with `mmio` and `mmio-read` accesses.
pub(crate) const MMIO_ADDRESSES: usize = 2;

/// The tests of the core set that only this architecture has.
pub(crate) const CORE_SET: &[&str] = &["ports_are_counted", "msrs_and_cpuid_leaves_are_counted"];

/// Whether KVM uses the processor's extension. Otherwise `kvm_exit` and `kvm_entry` do not fire.
pub(crate) fn has_exit_events() -> bool {
    Isa::detect().is_some()
}

/// The codes of the reasons that the host causes: on AMD interrupt, NMI and SMI, on Intel interrupt and the preemption timer,
/// which KVM uses itself.
pub(crate) fn host_codes() -> &'static [u64] {
    match Isa::detect() {
        Some(Isa::Svm) => &[0x60, 0x61, 0x62],
        Some(Isa::Vmx) | None => &[1, 52],
    }
}

/// Returns the name of the exit reason in the text of a `kvm_exit`, such as `vcpu 0 reason io rip 0x...`.
pub(crate) fn reason_in_text(text: &str) -> Option<&str> {
    text.split_once("reason ")?.1.split_whitespace().next()
}

/// The module of KVM for this processor.
pub(crate) fn kvm_module() -> &'static str {
    match Isa::detect() {
        Some(Isa::Vmx) => "kvm_intel",
        Some(Isa::Svm) | None => "kvm_amd",
    }
}
