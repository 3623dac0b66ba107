//! Names of exit reasons that the code must recognize.
//!
//! All other names come from the running kernel or from the recording. Sources: VMX_EXIT_REASONS in
//! arch/x86/include/uapi/asm/vmx.h, SVM_EXIT_REASONS in arch/x86/include/uapi/asm/svm.h, and
//! kvm_arm_exception_class in arch/arm64/include/asm/kvm_arm.h; Linux 6.12, `idle-halt` from 6.18.

/// Reasons after which the guest waits because it has nothing to do: on VMX, on SVM and on arm64.
pub const HALTS: &[&str] = &[
    "HLT",
    "hlt",
    "idle-halt",
    "MWAIT_INSTRUCTION",
    "mwait",
    "WFx",
];

/// Returns true if the guest waits after this exit because it has nothing to do.
pub(crate) fn is_halt(reason: &str) -> bool {
    HALTS.contains(&reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halts_are_recognized() {
        assert!(is_halt("HLT") && is_halt("hlt") && is_halt("WFx"));
        assert!(!is_halt("PAUSE_INSTRUCTION"));
    }
}
