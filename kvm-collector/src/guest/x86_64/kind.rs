//! Kinds of exits that the guest can cause.

use super::isa::Isa;

/// Guest operation that causes one VM exit per step (see [`Kind::steps`]) in each round. Only
/// [`Kind::TripleFault`] happens once.
///
/// Kinds that use in-kernel interrupt controllers ([`Kind::needs_irqchip`]) also interrupt the guest.
/// This may cause additional exits (`interrupt`, `vintr`, `EXTERNAL_INTERRUPT`, `INTERRUPT_WINDOW`).
/// Processors with APIC virtualization (Intel APICv, AMD AVIC) avoid some of the exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `out` to a port without an in-kernel device: handled in user space.
    Io,
    /// `in` from a port without an in-kernel device.
    IoRead,
    /// `cpuid`: handled in the kernel.
    Cpuid,
    /// Write to a guest-physical address without memory: emulated in the kernel, handled in user space.
    Mmio,
    /// Read from a guest-physical address without memory.
    MmioRead,
    /// `wrmsr` of an MSR that KVM emulates: handled in the kernel.
    Msr,
    /// `rdmsr` of an MSR that KVM emulates: handled in the kernel.
    MsrRead,
    /// `hlt`. Without in-kernel interrupt controllers it exits to user space, which resumes the vCPU at
    /// once.
    Hlt,
    /// Hypercall without an effect (`vmcall` on Intel, `vmmcall` on AMD).
    Hypercall,
    /// First write to a page of guest memory: the kernel maps the page.
    PageFault,
    /// `wbinvd`: handled in the kernel.
    Wbinvd,
    /// `invd`: skipped by the kernel.
    Invd,
    /// `xsetbv` that enables only the x87 state: handled in the kernel.
    Xsetbv,
    /// `ud2`: KVM intercepts #UD, finds nothing to emulate and injects #UD; the handler skips the
    /// instruction.
    Ud,
    /// `wrmsr` of an MSR that does not exist: KVM injects #GP, and the handler skips the instruction.
    Exception,
    /// Write to CR4 that toggles the bit MCE.
    Cr,
    /// `wrmsr` that sets the address of the KVM clock (`MSR_KVM_SYSTEM_TIME_NEW`).
    Pvclock,
    /// Write to a page with dirty logging, then an `out` that makes user space read the dirty log
    /// (`KVM_GET_DIRTY_LOG`), which write-protects the page again. Intel's page-modification logging
    /// needs no write protection, so there only the first write causes a page fault.
    Dirty,
    /// Write to the APIC timer's divide register.
    Apic,
    /// Read of the APIC timer's current count.
    ApicRead,
    /// Interprocessor interrupt from the vCPU to itself, then EOI.
    Ipi,
    /// APIC timer set to [`crate::guest::Plan::timer`], `hlt` until it expires, then EOI. An emulated processor
    /// may deliver the interrupt before the `hlt`; the guest then skips the `hlt`.
    Timer,
    /// Start of PIT channel 0 with three `out`s that the kernel handles. The guest does not wait for
    /// the interrupt.
    Pit,
    /// `out` that makes user space pulse a PIC line, which interrupts the first vCPU.
    Irq,
    /// `out` that makes user space pulse an IOAPIC line, then EOI. The line interrupts this vCPU if it
    /// is one of the first 8.
    Ioapic,
    /// `out` that makes user space send a message-signalled interrupt to this vCPU, then EOI.
    Msi,
    /// `int3` without an interrupt descriptor table, which shuts the vCPU down. It happens once, after
    /// the end of the program.
    TripleFault,
}

impl Kind {
    /// The kinds that happen once per vCPU, however many rounds there are.
    pub const ONCE: &[Self] = &[Self::TripleFault];

    /// The kinds of a plan without other kinds: one exit that user space handles, and one that the kernel handles.
    pub const DEFAULT: [Self; 2] = [Self::Io, Self::Cpuid];

    /// The kind that uses the timer of the guest.
    pub const WITH_TIMER: Self = Self::Timer;

    /// All kinds, in the order of the enum.
    pub const ALL: [Self; 27] = [
        Self::Io,
        Self::IoRead,
        Self::Cpuid,
        Self::Mmio,
        Self::MmioRead,
        Self::Msr,
        Self::MsrRead,
        Self::Hlt,
        Self::Hypercall,
        Self::PageFault,
        Self::Wbinvd,
        Self::Invd,
        Self::Xsetbv,
        Self::Ud,
        Self::Exception,
        Self::Cr,
        Self::Pvclock,
        Self::Dirty,
        Self::Apic,
        Self::ApicRead,
        Self::Ipi,
        Self::Timer,
        Self::Pit,
        Self::Irq,
        Self::Ioapic,
        Self::Msi,
        Self::TripleFault,
    ];

    /// Kind of the exits before the first round and after the last one.
    pub(in crate::guest) const START_AND_END: Self = Self::Io;

    /// Returns the name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::IoRead => "io-read",
            Self::Cpuid => "cpuid",
            Self::Mmio => "mmio",
            Self::MmioRead => "mmio-read",
            Self::Msr => "msr",
            Self::MsrRead => "msr-read",
            Self::Hlt => "hlt",
            Self::Hypercall => "hypercall",
            Self::PageFault => "page-fault",
            Self::Wbinvd => "wbinvd",
            Self::Invd => "invd",
            Self::Xsetbv => "xsetbv",
            Self::Ud => "ud",
            Self::Exception => "exception",
            Self::Cr => "cr",
            Self::Pvclock => "pvclock",
            Self::Dirty => "dirty",
            Self::Apic => "apic",
            Self::ApicRead => "apic-read",
            Self::Ipi => "ipi",
            Self::Timer => "timer",
            Self::Pit => "pit",
            Self::Irq => "irq",
            Self::Ioapic => "ioapic",
            Self::Msi => "msi",
            Self::TripleFault => "triple-fault",
        }
    }

    /// Returns the basic kinds of the exits that this kind causes, in order. A basic kind returns itself.
    #[must_use]
    pub const fn steps(self) -> &'static [Self] {
        match self {
            Self::Exception | Self::Pvclock | Self::Apic => &[Self::Msr],
            Self::ApicRead => &[Self::MsrRead],
            Self::Dirty => &[Self::PageFault, Self::Io],
            Self::Ipi => &[Self::Msr, Self::Msr],
            Self::Timer => &[Self::Msr, Self::Msr, Self::Hlt, Self::Msr],
            Self::Pit => &[Self::Io, Self::Io, Self::Io],
            Self::Irq => &[Self::Io],
            Self::Ioapic | Self::Msi => &[Self::Io, Self::Msr],
            Self::Io => &[Self::Io],
            Self::IoRead => &[Self::IoRead],
            Self::Cpuid => &[Self::Cpuid],
            Self::Mmio => &[Self::Mmio],
            Self::MmioRead => &[Self::MmioRead],
            Self::Msr => &[Self::Msr],
            Self::MsrRead => &[Self::MsrRead],
            Self::Hlt => &[Self::Hlt],
            Self::Hypercall => &[Self::Hypercall],
            Self::PageFault => &[Self::PageFault],
            Self::Wbinvd => &[Self::Wbinvd],
            Self::Invd => &[Self::Invd],
            Self::Xsetbv => &[Self::Xsetbv],
            Self::Ud => &[Self::Ud],
            Self::TripleFault => &[Self::TripleFault],
            Self::Cr => &[Self::Cr],
        }
    }

    /// Returns whether the VM needs in-kernel interrupt controllers. It has them only if a kind of its
    /// plan needs them.
    #[must_use]
    pub const fn needs_irqchip(self) -> bool {
        matches!(
            self,
            Self::Apic
                | Self::ApicRead
                | Self::Ipi
                | Self::Timer
                | Self::Pit
                | Self::Irq
                | Self::Ioapic
                | Self::Msi
        )
    }

    /// Returns the exit reason that `KVM_RUN` reports, or `None` if the kernel handles the exit.
    #[cfg(feature = "test-api")]
    #[must_use]
    pub const fn userspace_exit(self) -> Option<&'static str> {
        match self {
            Self::Io | Self::IoRead | Self::Dirty | Self::Irq | Self::Ioapic | Self::Msi => {
                Some("KVM_EXIT_IO")
            }
            Self::Mmio | Self::MmioRead => Some("KVM_EXIT_MMIO"),
            Self::Hlt => Some("KVM_EXIT_HLT"),
            Self::TripleFault => Some("KVM_EXIT_SHUTDOWN"),
            _ => None,
        }
    }

    /// Returns the name that `kvm_exit` prints for the first access to a boot page.
    pub(in crate::guest) const fn boot_page_reason(isa: Isa) -> &'static str {
        Self::PageFault.exit_reason(isa, 0)
    }

    /// Returns the name that `kvm_exit` prints for this kind's first step, assuming nested paging.
    /// `nth` counts the occurrences on one vCPU from 0.
    ///
    /// On Intel, the first access to a page without memory is an EPT violation. KVM then installs a
    /// misconfigured entry that marks the page as MMIO, so later accesses are EPT misconfigurations.
    #[must_use]
    pub const fn exit_reason(self, isa: Isa, nth: u32) -> &'static str {
        match (isa, self.steps()[0]) {
            (Isa::Svm, Self::Io | Self::IoRead) => "io",
            (Isa::Svm, Self::Cpuid) => "cpuid",
            (Isa::Svm, Self::Mmio | Self::MmioRead | Self::PageFault) => "npf",
            (Isa::Svm, Self::Msr | Self::MsrRead) => "msr",
            (Isa::Svm, Self::Hlt) => "hlt",
            (Isa::Svm, Self::Hypercall) => "hypercall",
            (Isa::Svm, Self::Wbinvd) => "wbinvd",
            (Isa::Svm, Self::Invd) => "invd",
            (Isa::Svm, Self::Xsetbv) => "xsetbv",
            (Isa::Svm, Self::Ud) => "UD excp",
            (Isa::Svm, Self::TripleFault) => "shutdown",
            (Isa::Vmx, Self::Io | Self::IoRead) => "IO_INSTRUCTION",
            (Isa::Vmx, Self::Cpuid) => "CPUID",
            (Isa::Vmx, Self::Mmio | Self::MmioRead) if nth > 0 => "EPT_MISCONFIG",
            (Isa::Vmx, Self::Mmio | Self::MmioRead | Self::PageFault) => "EPT_VIOLATION",
            (Isa::Vmx, Self::Msr) => "MSR_WRITE",
            (Isa::Vmx, Self::MsrRead) => "MSR_READ",
            (Isa::Vmx, Self::Hlt) => "HLT",
            (Isa::Vmx, Self::Hypercall) => "VMCALL",
            (Isa::Vmx, Self::Wbinvd) => "WBINVD",
            (Isa::Vmx, Self::Invd) => "INVD",
            (Isa::Vmx, Self::Xsetbv) => "XSETBV",
            (Isa::Vmx, Self::Ud) => "EXCEPTION_NMI",
            (Isa::Vmx, Self::TripleFault) => "TRIPLE_FAULT",
            (Isa::Svm, Self::Cr) => "write_cr4",
            (Isa::Vmx, Self::Cr) => "CR_ACCESS",
            // Unreachable: `steps` returns only basic kinds.
            (_, _) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::guest::{Plan, VcpuReport};

    fn report(kinds: &[Kind], isa: Isa) -> VcpuReport {
        let plan = Plan {
            kinds: kinds.to_vec(),
            exits: 10,
            ..Plan::default()
        };
        VcpuReport::expected(&plan, Some(isa), 0, 1)
    }

    #[test]
    fn boot_and_end_count_as_io_and_boot_pages_as_page_faults() {
        let report = report(&[Kind::Io, Kind::Mmio], Isa::Svm);
        assert_eq!(
            report.executed,
            BTreeMap::from([(Kind::Io, 12), (Kind::Mmio, 10)])
        );
        assert_eq!(
            report.kvm_exits,
            Some(BTreeMap::from([("io", 12), ("npf", 14)]))
        );
    }

    #[test]
    fn a_triple_fault_happens_once() {
        let report = report(&[Kind::TripleFault, Kind::TripleFault], Isa::Vmx);
        assert_eq!(report.executed[&Kind::TripleFault], 1);
        let expected = [
            ("EPT_VIOLATION", 4),
            ("IO_INSTRUCTION", 2),
            ("TRIPLE_FAULT", 1),
        ];
        assert_eq!(report.kvm_exits, Some(BTreeMap::from(expected)));
    }

    #[test]
    fn intel_reports_only_the_first_mmio_access_as_ept_violation() {
        let exits = report(&[Kind::Mmio, Kind::PageFault], Isa::Vmx).kvm_exits;
        let expected = [
            ("EPT_MISCONFIG", 9),
            ("EPT_VIOLATION", 15),
            ("IO_INSTRUCTION", 2),
        ];
        assert_eq!(exits, Some(BTreeMap::from(expected)));
    }
}
