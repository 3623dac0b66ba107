//! What tests need to know about the exits and events of arm64.

/// The field of `kvm_exit` with the code of the reason.
pub(crate) const REASON_FIELD: &str = "esr_ec";

/// The reasons of exits that the built-in guest makes and of those that the host's interrupts cause: exception classes from
/// the manual of the architecture. Interrupts have none.
pub(crate) const REASON_CODES: [(&str, u64); 6] = [
    ("IRQ", 0),
    ("WFx", 0x01),
    ("HVC64", 0x16),
    ("SYS64", 0x18),
    ("IABT_LOW", 0x20),
    ("DABT_LOW", 0x24),
];

/// The kinds whose exits do not depend on interrupts.
pub(crate) const KINDS_WITHOUT_INTERRUPTS: &str =
    "mmio,mmio-read,hypercall,sysreg-read,page-fault,dirty";

/// The guest makes exits with at least this many reasons with all of these kinds.
pub(crate) const MIN_REASONS: usize = 4;

/// Reasons that not every kernel has.
pub(crate) const OPTIONAL_REASONS: [u64; 0] = [];

/// Kinds that have an exit reason each.
pub(crate) const KINDS: &str = "mmio,hypercall,sysreg-read";

/// The arguments of guests that make many different events.
pub(crate) const GUESTS: &[&str] = &[
    "-n 30 -k mmio,mmio-read,hypercall,sysreg-read,page-fault,dirty",
    "-n 30 --vms 2 --vcpus 2 -k page-fault,hypercall,mmio",
    "-n 20 -k mmio,wfi --sleep 1ms",
    "-n 0",
    "-n 20 --vcpus 2 -k wfi,dirty,page-fault",
];

/// One more of them, with hypercalls.
pub(crate) const GUEST_WITH_HYPERCALL: &str = "-n 30 -k hypercall";

/// The guests cause at least this many different events.
pub(crate) const MIN_EVENTS: usize = 12;

/// Events that `trace` may print as `name=value`: they have strings that only the kernel's memory contains.
pub(crate) const UNDECODED_EVENTS: &[&str] =
    &["kvm_arm_set_dreg32", "kvm_set_way_flush", "kvm_sys_access"];

/// Whether interrupts of the host cause events in vCPU threads: those of the virtual timer do.
pub(crate) const INTERRUPTS_HAVE_EVENTS: bool = true;

/// The longest time, in microseconds, that the probe of one tool adds to what the other one measures, under emulation. The tool with
/// the probe that runs first at `kvm_exit` also measures the other's probe.
pub(crate) const PROBE_US: f64 = 12.0;

/// The number of addresses that a guest with `mmio` and `mmio-read` accesses, with those of its start and its end.
pub(crate) const MMIO_ADDRESSES: usize = 4;

/// The tests of the core set that only this architecture has.
pub(crate) const CORE_SET: &[&str] = &[
    "hypercalls_are_counted",
    "system_registers_are_counted",
    "vcpus_of_named_threads_are_numbered",
];

/// `kvm_exit` and `kvm_entry` do not tell the vCPU.
pub(crate) const VCPUS_FROM_THREAD_NAMES: bool = true;

/// Where there is KVM, `kvm_exit` and `kvm_entry` fire.
pub(crate) fn has_exit_events() -> bool {
    true
}

/// The codes of the reasons that the host causes: interrupts.
pub(crate) fn host_codes() -> &'static [u64] {
    &[0]
}

/// Returns the name of the exit reason in the text of a `kvm_exit`, such as `TRAP: HSR_EC: 0x0016 (HVC64), PC: 0x...`, or
/// `IRQ: ...`.
pub(crate) fn reason_in_text(text: &str) -> Option<&str> {
    match text.split_once(':')? {
        ("TRAP", rest) => Some(rest.split_once('(')?.1.split_once(')')?.0),
        (interrupt, _) => Some(interrupt),
    }
}

/// KVM is built into the kernel.
pub(crate) fn kvm_module() -> &'static str {
    "kvm"
}
