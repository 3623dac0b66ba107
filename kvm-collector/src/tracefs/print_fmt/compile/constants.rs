//! Constants with the same value in every kernel: C defines them, or the processor does.

/// Returns the value of a constant.
pub(super) fn constant(name: &str) -> Option<i64> {
    Some(match name {
        "true" => 1,
        "false" | "NULL" => 0,
        // enum vm_instruction_error_number, arch/x86/include/asm/vmx.h: the processor stores these
        // numbers in the VMCS (Intel SDM, volume 3, "VM Instruction Error Numbers").
        "VMXERR_VMLAUNCH_NONCLEAR_VMCS" => 4,
        "VMXERR_VMRESUME_NONLAUNCHED_VMCS" => 5,
        "VMXERR_VMRESUME_AFTER_VMXOFF" => 6,
        "VMXERR_ENTRY_INVALID_CONTROL_FIELD" => 7,
        "VMXERR_ENTRY_INVALID_HOST_STATE_FIELD" => 8,
        "VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS" => 26,
        // enum exception_type, arch/arm64/include/asm/kvm_emulate.h: offsets in the processor's vector
        // table (Arm ARM, "Exception vectors").
        "except_type_sync" => 0,
        "except_type_irq" => 0x80,
        "except_type_fiq" => 0x100,
        "except_type_serror" => 0x180,
        _ => return None,
    })
}
