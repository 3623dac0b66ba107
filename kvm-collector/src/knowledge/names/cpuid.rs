//! Names of CPUID leaves. (Intel SDM, volume 2, "CPUID"; AMD APM, volume 3, appendix E; those from 0x40000000:
//! Linux 6.1, Documentation/virt/kvm/x86/cpuid.rst and arch/x86/include/asm/hyperv-tlfs.h.)

use super::table::{Known, find, one, row};

/// What the leaf says.
pub(crate) fn name(leaf: u64) -> Option<String> {
    find(LEAVES, leaf)
}

const LEAVES: &[Known] = &[
    one(0x0, "vendor, highest leaf"),
    one(0x1, "version, features"),
    one(0x2, "cache descriptors"),
    one(0x4, "caches"),
    one(0x5, "MONITOR/MWAIT"),
    one(0x6, "thermal, power"),
    one(0x7, "extended features"),
    one(0xa, "performance monitoring"),
    one(0xb, "topology"),
    one(0xd, "XSAVE"),
    one(0xf, "resource monitoring"),
    one(0x10, "resource allocation"),
    one(0x12, "SGX"),
    one(0x14, "processor trace"),
    one(0x15, "TSC frequency"),
    one(0x16, "CPU frequency"),
    one(0x1d, "AMX tiles"),
    one(0x1e, "AMX TMUL"),
    one(0x1f, "topology, version 2"),
    // KVM's are from here, or from 0x40000100 where the guest is to see Hyper-V's.
    one(0x4000_0000, "hypervisor: signature"),
    one(0x4000_0001, "hypervisor: KVM features or Hyper-V interface"),
    one(0x4000_0002, "hypervisor: Hyper-V version"),
    one(0x4000_0003, "hypervisor: Hyper-V features"),
    one(0x4000_0004, "hypervisor: Hyper-V recommendations"),
    one(0x4000_0005, "hypervisor: Hyper-V limits"),
    one(0x4000_000a, "hypervisor: Hyper-V nested features"),
    one(0x4000_0010, "hypervisor: TSC and bus frequency"),
    one(0x4000_0100, "hypervisor: KVM signature"),
    one(0x4000_0101, "hypervisor: KVM features"),
    one(0x8000_0000, "highest extended leaf"),
    one(0x8000_0001, "extended version, features"),
    row(0x8000_0002, 0x8000_0004, "brand string"),
    one(0x8000_0005, "L1 caches, TLBs"),
    one(0x8000_0006, "L2 cache"),
    one(0x8000_0007, "power, invariant TSC"),
    one(0x8000_0008, "address sizes"),
    one(0x8000_000a, "SVM"),
    one(0x8000_001a, "performance hints"),
    one(0x8000_001b, "IBS"),
    one(0x8000_001d, "AMD caches"),
    one(0x8000_001e, "AMD topology"),
    one(0x8000_001f, "SEV"),
    one(0x8000_0020, "AMD resource control"),
    one(0x8000_0021, "AMD extended features 2"),
    one(0x8000_0022, "AMD performance monitoring"),
    one(0x8000_0026, "AMD topology, extended"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_have_one_name() {
        crate::knowledge::names::table::assert_no_number_twice(LEAVES);
        assert_eq!(name(1).as_deref(), Some("version, features"));
        assert_eq!(name(0x8000_0003).as_deref(), Some("brand string"));
        assert_eq!(name(3), None);
    }
}
