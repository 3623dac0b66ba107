//! Advice by the reason of an exit, as VMX, SVM and arm64 call it.

use super::{
    subject::TimeBreakdown,
    topics::{self, Advice},
};

/// Advice that is about the VMM's time already.
pub(super) const ABOUT_VMM: &[Advice] = &[
    topics::VMM,
    topics::MMIO_VMM,
    topics::IO_VMM,
    topics::HALT_IN_VMM,
    topics::SERIAL,
    topics::IDE,
    topics::PCI_CONFIG,
    topics::DEBUG_PORT,
    topics::VGA,
    topics::CLOCK,
    topics::SIGNALS,
];

pub(super) fn advice(reason: &str, time: TimeBreakdown) -> Option<Advice> {
    let reason = reason.to_ascii_lowercase();
    let advice = match reason.as_str() {
        "pause" | "pause_instruction" => topics::PAUSE,
        "hlt" | "idle-halt" | "wfx" => halt(time),
        "mwait" | "mwait_instruction" | "monitor" | "monitor_instruction" => topics::MWAIT,
        "ept_misconfig" => mmio(time),
        // MMIO, or memory that is not mapped. The VMM takes no part in mapping it.
        "npf" | "ept_violation" | "dabt_low" => match mmio(time) {
            topics::MMIO => topics::FAULTS,
            in_vmm => in_vmm,
        },
        "iabt_low" => topics::FAULTS,
        "io" | "io_instruction" => io(time),
        "msr" | "msr_read" | "msr_write" | "msr_read_imm" | "msr_write_imm" => topics::MSR,
        "external_interrupt" | "interrupt" | "irq" => topics::HOST_INTERRUPTS,
        "exception_nmi" | "nmi" => topics::EXCEPTION,
        "interrupt_window" | "nmi_window" | "vintr" => topics::WINDOW,
        "preemption_timer" => topics::TIMER,
        "apic_write"
        | "apic_access"
        | "eoi_induced"
        | "tpr_below_threshold"
        | "avic_unaccelerated_access"
        | "read_cr8"
        | "write_cr8" => topics::APIC,
        "avic_incomplete_ipi" => topics::IPI,
        "pml_full" => topics::DIRTY_LOG,
        "cpuid" => topics::CPUID,
        "wbinvd" | "invd" => topics::WBINVD,
        "cr_access" | "cr0_sel_write" => topics::CR,
        "dr_access" => topics::DR,
        "rdtsc" | "rdtscp" => topics::TSC,
        "rdpmc" => topics::PMU,
        "invlpg" | "invpcid" => topics::SHADOW_PAGING,
        "vmcall" | "hypercall" | "hvc32" | "hvc64" | "smc32" | "smc64" => topics::HYPERCALL,
        "sys64" => topics::SYSREG,
        "vmgexit" => topics::SEV,
        "bus_lock" | "buslock" => topics::BUS_LOCK,
        "notify" => topics::NOTIFY,
        "vmclear" | "vmlaunch" | "vmptrld" | "vmptrst" | "vmread" | "vmresume" | "vmwrite"
        | "vmoff" | "vmon" | "invept" | "invvpid" | "vmrun" | "vmload" | "vmsave" | "stgi"
        | "clgi" | "eret" => topics::NESTED,
        reason if reason.ends_with(" excp") => topics::EXCEPTION,
        reason if reason.starts_with("read_cr") || reason.starts_with("write_cr") => topics::CR,
        reason if reason.starts_with("read_dr") || reason.starts_with("write_dr") => topics::DR,
        _ => return None,
    };
    Some(advice)
}

/// Who waits?
pub(super) fn halt(time: TimeBreakdown) -> Advice {
    if time.vmm_ns > time.halted_ns.saturating_add(time.busy_ns) {
        topics::HALT_IN_VMM
    } else {
        topics::HALT
    }
}

pub(super) fn mmio(time: TimeBreakdown) -> Advice {
    if time.is_mostly_vmm() {
        topics::MMIO_VMM
    } else {
        topics::MMIO
    }
}

pub(super) fn io(time: TimeBreakdown) -> Advice {
    if time.is_mostly_vmm() {
        topics::IO_VMM
    } else {
        topics::IO
    }
}
