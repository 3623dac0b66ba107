//! Which of the two virtualization extensions the processor has.

use std::arch::x86_64::__cpuid;

use serde::Serialize;

/// The processor's virtualization extension: it decides what exits are called and which hypercall instruction is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// Intel's, also Zhaoxin's.
    Vmx,
    /// AMD's, also Hygon's.
    Svm,
}

impl Isa {
    /// What this processor offers; `None` where KVM, if there is any, virtualizes in software (as PVM does).
    #[must_use]
    pub fn of_host() -> Option<Self> {
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
