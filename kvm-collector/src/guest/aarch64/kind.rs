//! Kinds of exits that the guest can cause.

use super::isa::Isa;

/// Guest operation that causes one VM exit per step (see [`Kind::steps`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Write to a guest-physical address without memory: handled in user space.
    Mmio,
    /// Read from a guest-physical address without memory.
    MmioRead,
    /// `hvc` with the function PSCI_VERSION: handled in the kernel.
    Hypercall,
    /// `mrs` of an identification register that KVM emulates.
    SysregRead,
    /// Virtual timer set to [`crate::guest::Plan::timer`], `wfi` until it expires, then acknowledgement of the
    /// interrupt, which causes no exit. If the timer expires before the `wfi`, there is no exit either.
    Wfi,
    /// First write to a page of guest memory: the kernel maps the page.
    PageFault,
    /// Write to a page with dirty logging, then an MMIO write that makes user space read the dirty log
    /// (`KVM_GET_DIRTY_LOG`), which write-protects the page again.
    Dirty,
}

impl Kind {
    /// The kinds that happen once per vCPU, however many rounds there are.
    pub const ONCE: &[Self] = &[];

    /// The kinds of a plan without other kinds: one exit that user space handles, and one that the kernel handles.
    pub const DEFAULT: [Self; 2] = [Self::Mmio, Self::Hypercall];

    /// The kind that uses the timer of the guest.
    pub const WITH_TIMER: Self = Self::Wfi;

    /// All kinds, in the order of the enum.
    pub const ALL: [Self; 7] = [
        Self::Mmio,
        Self::MmioRead,
        Self::Hypercall,
        Self::SysregRead,
        Self::Wfi,
        Self::PageFault,
        Self::Dirty,
    ];

    /// Kind of the exits before the first round and after the last one.
    pub(in crate::guest) const START_AND_END: Self = Self::Mmio;

    /// Returns the name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mmio => "mmio",
            Self::MmioRead => "mmio-read",
            Self::Hypercall => "hypercall",
            Self::SysregRead => "sysreg-read",
            Self::Wfi => "wfi",
            Self::PageFault => "page-fault",
            Self::Dirty => "dirty",
        }
    }

    /// Returns the basic kinds of the exits that this kind causes, in order. A basic kind returns itself.
    #[must_use]
    pub const fn steps(self) -> &'static [Self] {
        match self {
            Self::Mmio => &[Self::Mmio],
            Self::MmioRead => &[Self::MmioRead],
            Self::Hypercall => &[Self::Hypercall],
            Self::SysregRead => &[Self::SysregRead],
            Self::Wfi => &[Self::Wfi],
            Self::PageFault => &[Self::PageFault],
            Self::Dirty => &[Self::PageFault, Self::Mmio],
        }
    }

    /// Returns the exit reason that `KVM_RUN` reports, or `None` if the kernel handles the exit.
    #[cfg(feature = "test-api")]
    #[must_use]
    pub const fn userspace_exit(self) -> Option<&'static str> {
        match self {
            Self::Mmio | Self::MmioRead | Self::Dirty => Some("KVM_EXIT_MMIO"),
            _ => None,
        }
    }

    /// Returns the name that `kvm_exit` prints for the first access to a boot page.
    pub(in crate::guest) const fn boot_page_reason(_isa: Isa) -> &'static str {
        "IABT_LOW"
    }

    /// Returns the name that `kvm_exit` prints for this kind's first step. It is the same for all
    /// occurrences.
    #[must_use]
    pub const fn exit_reason(self, _isa: Isa, _nth: u32) -> &'static str {
        match self {
            Self::Mmio | Self::MmioRead | Self::PageFault | Self::Dirty => "DABT_LOW",
            Self::Hypercall => "HVC64",
            Self::SysregRead => "SYS64",
            Self::Wfi => "WFx",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::exits::add_power_off;
    use super::*;
    use crate::guest::{Plan, VcpuReport};

    #[test]
    fn start_end_and_dirty_pages_are_data_aborts() {
        let plan = Plan {
            kinds: vec![Kind::Hypercall, Kind::Dirty],
            exits: 10,
            ..Plan::default()
        };
        let mut report = VcpuReport::expected(&plan, Isa::detect(), 0, 1);
        add_power_off(&mut report);
        let expected = [("DABT_LOW", 22), ("HVC64", 11), ("IABT_LOW", 1)];
        assert_eq!(report.kvm_exits, Some(BTreeMap::from(expected)));
    }
}
