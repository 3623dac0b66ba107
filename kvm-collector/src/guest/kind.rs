//! The kinds of exit the guest can make.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::Isa;

/// One thing the guest does that makes its vCPU exit: once, or as often as it has [`Kind::steps`].
///
/// Kinds that use the kernel's interrupt controllers ([`Kind::needs_irqchip`]) interrupt the guest, too, so an exit for an
/// interrupt (`interrupt`, `vintr`, `EXTERNAL_INTERRUPT`, `INTERRUPT_WINDOW`) may come on top. Processors that virtualize the
/// APIC (Intel's APICv, AMD's AVIC) leave out some of the exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `out` to a port nobody in the kernel owns: handled in user space.
    Io,
    /// `in` from such a port.
    IoRead,
    /// `cpuid`: handled in the kernel.
    Cpuid,
    /// A write to guest-physical memory that is not there: emulated in the kernel, handled in user space.
    Mmio,
    /// A read from there.
    MmioRead,
    /// `wrmsr` of an MSR that KVM keeps itself: handled in the kernel.
    Msr,
    /// `rdmsr` of it.
    MsrRead,
    /// `hlt`: without an interrupt controller in the kernel, user space decides when to go on (at once).
    Hlt,
    /// The vendor's hypercall instruction, with a call that does nothing.
    Hypercall,
    /// The first touch of a page of the guest's own memory: the kernel maps it.
    PageFault,
    /// `wbinvd`: handled in the kernel.
    Wbinvd,
    /// `wrmsr` of an MSR that does not exist: KVM injects #GP, and the guest goes on behind it.
    Exception,
    /// A write of CR4 that flips its bit MCE.
    Cr,
    /// `wrmsr` that tells KVM where to keep its clock (`KVM_SYSTEM_TIME`).
    Pvclock,
    /// A write to a page whose writes are logged, then an `out`, upon which user space reads the log (`KVM_GET_DIRTY_LOG`) and the
    /// page is write-protected again. Intel's processors log writes without an exit, so there the page faults but once.
    Dirty,
    /// A write to the APIC's timer settings.
    Apic,
    /// A read of the APIC's timer.
    ApicRead,
    /// An interrupt sent to itself, and its end.
    Ipi,
    /// The APIC's timer set to [`super::Plan::timer`], waited for in `hlt`, and the end of its interrupt. (Where an emulated processor lets the
    /// interrupt in before the `hlt`, that is left out.)
    Timer,
    /// The PIT's first timer started, by three `out`s that the kernel handles; its interrupt comes when it comes.
    Pit,
    /// An `out`, upon which user space pulses a line of the PIC (to the first vCPU).
    Irq,
    /// The same with a line of the IOAPIC (to this vCPU, if it is one of the first 8), and the interrupt's end.
    Ioapic,
    /// The same with a message-signalled interrupt.
    Msi,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 23] = [
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
    ];

    /// The name it is asked for by.
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
        }
    }

    /// What it consists of, an exit each, as far as exits go: kinds that have no steps but themselves.
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
            Self::Cr => &[Self::Cr],
        }
    }

    /// Whether it takes interrupt controllers in the kernel, which a VM has only then.
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

    #[cfg(feature = "test-api")]
    /// The reason user space is given when the kernel does not handle the exit itself.
    #[must_use]
    pub const fn userspace_exit(self) -> Option<&'static str> {
        match self {
            Self::Io | Self::IoRead | Self::Dirty | Self::Irq | Self::Ioapic | Self::Msi => {
                Some("KVM_EXIT_IO")
            }
            Self::Mmio | Self::MmioRead => Some("KVM_EXIT_MMIO"),
            Self::Hlt => Some("KVM_EXIT_HLT"),
            _ => None,
        }
    }

    /// The name `kvm_exit` prints for the `nth` occurrence of its first step (from 0) on one vCPU, with nested paging.
    ///
    /// Intel tells the first access to an unbacked page from the later ones, which hit the entry KVM left there to
    /// recognise them by.
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
            (Isa::Vmx, Self::Io | Self::IoRead) => "IO_INSTRUCTION",
            (Isa::Vmx, Self::Cpuid) => "CPUID",
            (Isa::Vmx, Self::Mmio | Self::MmioRead) if nth > 0 => "EPT_MISCONFIG",
            (Isa::Vmx, Self::Mmio | Self::MmioRead | Self::PageFault) => "EPT_VIOLATION",
            (Isa::Vmx, Self::Msr) => "MSR_WRITE",
            (Isa::Vmx, Self::MsrRead) => "MSR_READ",
            (Isa::Vmx, Self::Hlt) => "HLT",
            (Isa::Vmx, Self::Hypercall) => "VMCALL",
            (Isa::Vmx, Self::Wbinvd) => "WBINVD",
            (Isa::Svm, Self::Cr) => "write_cr4",
            (Isa::Vmx, Self::Cr) => "CR_ACCESS",
            // Steps are none of the kinds that have others.
            (_, _) => "",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A kind was asked for by a name that none has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no kind of exit is called `{name}`: there are {}", Kind::ALL.map(Kind::name).join(", "))]
pub struct UnknownKind {
    /// What was asked for.
    pub name: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| UnknownKind {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse::<Kind>(), Ok(kind));
        }
    }

    #[test]
    fn an_unknown_kind_is_told_what_there_is() {
        let error = "nmi".parse::<Kind>().unwrap_err().to_string();
        assert!(
            error.contains("`nmi`") && error.contains("page-fault"),
            "{error}"
        );
    }
}
