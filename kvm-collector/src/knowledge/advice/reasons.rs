//! Advice by the exit reason. VMX, SVM and arm64 have different names for the same reason.

use super::{
    subject::TimeBreakdown,
    topics::{self, Topic},
};

/// Advice that already says what to do about time in the VMM.
pub(super) const ABOUT_VMM: &[Topic] = &[
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

/// Exit reasons, and the advice on them, which may depend on where the time went.
type Rule = (&'static [&'static str], fn(TimeBreakdown) -> Topic);

/// Advice by reason, with the names that the kernel prints. Where they are defined:
/// [`exit_reason`](crate::knowledge::names::exit_reason). `MSR_READ_IMM`, `MSR_WRITE_IMM`, `idle-halt` and `buslock` are
/// newer than Linux 6.12; Linux 6.18 has them.
const RULES: &[Rule] = &[
    (&["PAUSE_INSTRUCTION", "pause"], |_| topics::PAUSE),
    (&["HLT", "hlt", "idle-halt", "WFx"], halt),
    (
        &[
            "MWAIT_INSTRUCTION",
            "mwait",
            "MONITOR_INSTRUCTION",
            "monitor",
        ],
        |_| topics::MWAIT,
    ),
    (&["EPT_MISCONFIG"], mmio),
    (&["EPT_VIOLATION", "npf", "DABT_LOW"], mmio_or_fault),
    (&["IABT_LOW"], |_| topics::FAULTS),
    (&["IO_INSTRUCTION", "io"], io),
    (
        &[
            "MSR_READ",
            "MSR_WRITE",
            "MSR_READ_IMM",
            "MSR_WRITE_IMM",
            "msr",
        ],
        |_| topics::MSR,
    ),
    (&["EXTERNAL_INTERRUPT", "interrupt", "IRQ"], |_| {
        topics::HOST_INTERRUPTS
    }),
    (
        &[
            "EXCEPTION_NMI",
            "nmi",
            "DE excp",
            "DB excp",
            "BP excp",
            "OF excp",
            "BR excp",
            "UD excp",
            "NM excp",
            "DF excp",
            "TS excp",
            "NP excp",
            "SS excp",
            "GP excp",
            "PF excp",
            "MF excp",
            "AC excp",
            "MC excp",
            "XF excp",
        ],
        |_| topics::EXCEPTION,
    ),
    (&["INTERRUPT_WINDOW", "NMI_WINDOW", "vintr"], |_| {
        topics::WINDOW
    }),
    (&["PREEMPTION_TIMER"], |_| topics::TIMER),
    (
        &[
            "APIC_WRITE",
            "APIC_ACCESS",
            "EOI_INDUCED",
            "TPR_BELOW_THRESHOLD",
            "avic_unaccelerated_access",
            "read_cr8",
            "write_cr8",
        ],
        |_| topics::APIC,
    ),
    (&["avic_incomplete_ipi"], |_| topics::IPI),
    (&["PML_FULL"], |_| topics::DIRTY_LOG),
    (&["CPUID", "cpuid"], |_| topics::CPUID),
    (&["WBINVD", "wbinvd", "INVD", "invd"], |_| topics::WBINVD),
    (
        &[
            "CR_ACCESS",
            "cr0_sel_write",
            "read_cr0",
            "read_cr2",
            "read_cr3",
            "read_cr4",
            "write_cr0",
            "write_cr2",
            "write_cr3",
            "write_cr4",
            "write_cr0_trap",
            "write_cr4_trap",
            "write_cr8_trap",
        ],
        |_| topics::CR,
    ),
    (
        &[
            "DR_ACCESS",
            "read_dr0",
            "read_dr1",
            "read_dr2",
            "read_dr3",
            "read_dr4",
            "read_dr5",
            "read_dr6",
            "read_dr7",
            "write_dr0",
            "write_dr1",
            "write_dr2",
            "write_dr3",
            "write_dr4",
            "write_dr5",
            "write_dr6",
            "write_dr7",
        ],
        |_| topics::DR,
    ),
    (&["RDTSC", "rdtsc", "RDTSCP", "rdtscp"], |_| topics::TSC),
    (&["RDPMC", "rdpmc"], |_| topics::PMU),
    (&["INVLPG", "invlpg", "INVPCID", "invpcid"], |_| {
        topics::SHADOW_PAGING
    }),
    (&["VMCALL", "hypercall", "HVC64", "SMC64"], |_| {
        topics::HYPERCALL
    }),
    (&["SYS64"], |_| topics::SYSREG),
    (&["vmgexit"], |_| topics::SEV),
    (&["BUS_LOCK", "buslock"], |_| topics::BUS_LOCK),
    (&["NOTIFY"], |_| topics::NOTIFY),
    (
        &[
            "VMCLEAR", "VMLAUNCH", "VMPTRLD", "VMPTRST", "VMREAD", "VMRESUME", "VMWRITE", "VMOFF",
            "VMON", "INVEPT", "INVVPID", "vmrun", "vmload", "vmsave", "stgi", "clgi", "ERET",
        ],
        |_| topics::NESTED,
    ),
];

/// Returns advice on a reason.
pub(super) fn advice(reason: &str, time: TimeBreakdown) -> Option<Topic> {
    let (_, advice) = RULES.iter().find(|(names, _)| names.contains(&reason))?;
    Some(advice(time))
}

/// Returns every reason that has advice.
#[cfg(feature = "test-api")]
pub fn with_advice() -> impl Iterator<Item = &'static str> {
    RULES.iter().flat_map(|(names, _)| *names).copied()
}

fn halt(time: TimeBreakdown) -> Topic {
    if time.halts_in_vmm() {
        topics::HALT_IN_VMM
    } else {
        topics::HALT
    }
}

/// Advice on a reason that means MMIO, or memory that is not mapped. The VMM has no part in mapping it.
fn mmio_or_fault(time: TimeBreakdown) -> Topic {
    if time.goes_to_vmm() {
        topics::MMIO_VMM
    } else {
        topics::FAULTS
    }
}

/// Advice on an access to a device's memory.
pub(super) fn mmio(time: TimeBreakdown) -> Topic {
    if time.goes_to_vmm() {
        topics::MMIO_VMM
    } else {
        topics::MMIO
    }
}

/// Advice on an access to an I/O port.
pub(super) fn io(time: TimeBreakdown) -> Topic {
    if time.goes_to_vmm() {
        topics::IO_VMM
    } else {
        topics::IO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_has_two_rules() {
        let mut seen = std::collections::BTreeSet::new();
        for reason in with_advice() {
            assert!(seen.insert(reason), "{reason}");
        }
    }
}
