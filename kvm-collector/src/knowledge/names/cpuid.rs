//! Names of CPUID leaves.
//!
//! Sources: Intel SDM, volume 2, "CPUID"; AMD APM, volume 3, appendix E; arch/x86/kvm/cpuid.c,
//! `__do_cpuid_func`, Linux 6.12. Hypervisor leaves: arch/x86/include/asm/hyperv-tlfs.h and
//! arch/x86/include/uapi/asm/kvm_para.h, Linux 6.1 and 6.12; 0x40000010: QEMU,
//! target/i386/kvm/kvm.c, `vmware-cpuid-freq`.

use super::table::{NumberRange, find_name, range, single};

/// Returns what a leaf describes.
pub(crate) fn name(leaf: u64) -> Option<String> {
    find_name(LEAVES, leaf)
}

/// Leaves that guests read.
pub const LEAVES: &[NumberRange] = &[
    single(0x0, "vendor, highest leaf"),
    single(0x1, "version, features"),
    single(0x2, "cache descriptors"),
    single(0x3, "serial number"),
    single(0x4, "caches"),
    single(0x5, "MONITOR/MWAIT"),
    single(0x6, "thermal, power"),
    single(0x7, "extended features"),
    single(0xa, "performance monitoring"),
    single(0xb, "topology"),
    single(0xd, "XSAVE"),
    single(0xf, "resource monitoring"),
    single(0x10, "resource allocation"),
    single(0x12, "SGX"),
    single(0x14, "processor trace"),
    single(0x15, "TSC frequency"),
    single(0x16, "CPU frequency"),
    single(0x1d, "AMX tiles"),
    single(0x1e, "AMX TMUL"),
    single(0x1f, "topology, version 2"),
    single(0x21, "TDX"),
    single(0x23, "performance monitoring, extended"),
    single(0x24, "AVX10"),
    // KVM's own leaves start at 0x40000000, or at 0x40000100 if the VMM also shows those of Hyper-V.
    single(0x4000_0000, "hypervisor: signature"),
    single(0x4000_0001, "hypervisor: KVM features or Hyper-V interface"),
    single(0x4000_0002, "hypervisor: Hyper-V version"),
    single(0x4000_0003, "hypervisor: Hyper-V features"),
    single(0x4000_0004, "hypervisor: Hyper-V recommendations"),
    single(0x4000_0005, "hypervisor: Hyper-V limits"),
    single(0x4000_000a, "hypervisor: Hyper-V nested features"),
    single(0x4000_0010, "hypervisor: TSC and bus frequency"),
    single(0x4000_0100, "hypervisor: KVM signature"),
    single(0x4000_0101, "hypervisor: KVM features"),
    single(0x8000_0000, "highest extended leaf"),
    single(0x8000_0001, "extended version, features"),
    range(0x8000_0002, 0x8000_0004, "brand string"),
    single(0x8000_0005, "L1 caches, TLBs"),
    single(0x8000_0006, "L2 cache, TLBs"),
    single(0x8000_0007, "power, invariant TSC"),
    single(0x8000_0008, "address sizes"),
    single(0x8000_000a, "SVM"),
    single(0x8000_0019, "TLBs of 1 GB pages"),
    single(0x8000_001a, "performance hints"),
    single(0x8000_001b, "IBS"),
    single(0x8000_001d, "AMD caches"),
    single(0x8000_001e, "AMD topology"),
    single(0x8000_001f, "SEV"),
    single(0x8000_0020, "AMD resource control"),
    single(0x8000_0021, "AMD extended features 2"),
    single(0x8000_0022, "AMD performance monitoring"),
    single(0x8000_0026, "AMD topology, extended"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_have_names() {
        crate::knowledge::names::table::assert_no_duplicates(LEAVES);
        assert_eq!(name(1).as_deref(), Some("version, features"));
        assert_eq!(name(0x8000_0003).as_deref(), Some("brand string"));
        assert_eq!(name(8), None);
    }
}
