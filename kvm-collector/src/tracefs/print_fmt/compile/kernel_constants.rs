//! Definitions from the kernel's headers that print formats use but format files do not contain: the
//! layout of one union, and the values of a few constants.
//!
//! An event with any other name in its print format is printed as `name=value`.

/// The lowest bit and the width of a bit field.
pub(super) type BitRange = (u8, u8);

/// Returns the bits of a member of a union. `name` includes the keyword: `union x`.
///
/// `union kvm_mmu_page_role` is in arch/x86/include/asm/kvm_host.h. The bits are those in the BTF of
/// Linux 6.18. Older kernels use the same bits, with other names for two of them: bit 4 was
/// gpte_is_8_bytes (with the opposite meaning), and bit 12 was nxe. They do not have passthrough and
/// is_mirror yet.
pub(super) fn union_member_bits(name: &str, member: &str) -> Option<BitRange> {
    if name != "union kvm_mmu_page_role" {
        return None;
    }
    Some(match member {
        "word" => (0, 32),
        "level" => (0, 4),
        "has_4_byte_gpte" | "gpte_is_8_bytes" => (4, 1),
        "quadrant" => (5, 2),
        "direct" => (7, 1),
        "access" => (8, 3),
        "invalid" => (11, 1),
        "efer_nx" | "nxe" => (12, 1),
        "cr0_wp" => (13, 1),
        "smep_andnot_wp" => (14, 1),
        "smap_andnot_wp" => (15, 1),
        "ad_disabled" => (16, 1),
        "guest_mode" => (17, 1),
        "passthrough" => (18, 1),
        "is_mirror" => (19, 1),
        "smm" => (24, 8),
        _ => return None,
    })
}

/// Returns the value of a macro or enum constant. These are the constants for which the kernel does
/// not put the value into the format file (it has no `TRACE_DEFINE_ENUM` for them). The values of the
/// x86 constants are those in the BTF of Linux 6.18.
pub(super) fn enum_constant(name: &str) -> Option<i32> {
    Some(match name {
        "true" => 1,
        "false" | "NULL" => 0,
        // enum vdso_clock_mode, include/vdso/clocksource.h and arch/x86/include/asm/vdso/clocksource.h.
        "VDSO_CLOCKMODE_NONE" => 0,
        "VDSO_CLOCKMODE_TSC" => 1,
        // enum vm_instruction_error_number, arch/x86/include/asm/vmx.h; defined in the Intel SDM.
        "VMXERR_VMLAUNCH_NONCLEAR_VMCS" => 4,
        "VMXERR_VMRESUME_NONLAUNCHED_VMCS" => 5,
        "VMXERR_VMRESUME_AFTER_VMXOFF" => 6,
        "VMXERR_ENTRY_INVALID_CONTROL_FIELD" => 7,
        "VMXERR_ENTRY_INVALID_HOST_STATE_FIELD" => 8,
        "VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS" => 26,
        // enum kvm_apicv_inhibit, arch/x86/include/asm/kvm_host.h. Linux 6.1 prints only the number.
        "APICV_INHIBIT_REASON_DISABLED" => 0,
        "APICV_INHIBIT_REASON_HYPERV" => 1,
        "APICV_INHIBIT_REASON_ABSENT" => 2,
        "APICV_INHIBIT_REASON_BLOCKIRQ" => 3,
        "APICV_INHIBIT_REASON_PHYSICAL_ID_ALIASED" => 4,
        "APICV_INHIBIT_REASON_APIC_ID_MODIFIED" => 5,
        "APICV_INHIBIT_REASON_APIC_BASE_MODIFIED" => 6,
        "APICV_INHIBIT_REASON_NESTED" => 7,
        "APICV_INHIBIT_REASON_IRQWIN" => 8,
        "APICV_INHIBIT_REASON_PIT_REINJ" => 9,
        "APICV_INHIBIT_REASON_SEV" => 10,
        "APICV_INHIBIT_REASON_LOGICAL_ID_ALIASED" => 11,
        "APICV_INHIBIT_REASON_PHYSICAL_ID_TOO_BIG" => 12,
        // enum exception_type, arch/arm64/include/asm/kvm_emulate.h: offsets in the architecture's
        // vector table.
        "except_type_sync" => 0,
        "except_type_irq" => 0x80,
        "except_type_fiq" => 0x100,
        "except_type_serror" => 0x180,
        _ => return None,
    })
}
