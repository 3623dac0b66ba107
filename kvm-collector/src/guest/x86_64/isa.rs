//! Detection of the processor's virtualization extension.

use std::arch::x86_64::__cpuid;

use serde::Serialize;

/// Virtualization extension of the processor. It determines the names of exit reasons and the
/// hypercall instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// VMX of Intel and Zhaoxin processors.
    Vmx,
    /// SVM of AMD and Hygon processors.
    Svm,
}

impl Isa {
    /// Detects the extension of this processor with `cpuid`. Returns `None` if it has none; KVM can
    /// then only virtualize in software, as PVM does.
    #[must_use]
    pub fn detect() -> Option<Self> {
        const LEAF_1_ECX_VMX: u32 = 1 << 5;
        const LEAF_8000_0001_ECX_SVM: u32 = 1 << 2;

        if __cpuid(1).ecx & LEAF_1_ECX_VMX != 0 {
            return Some(Self::Vmx);
        }
        let svm = __cpuid(0x8000_0000).eax >= 0x8000_0001
            && __cpuid(0x8000_0001).ecx & LEAF_8000_0001_ECX_SVM != 0;
        svm.then_some(Self::Svm)
    }
}
