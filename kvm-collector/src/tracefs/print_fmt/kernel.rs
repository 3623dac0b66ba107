//! The little that print formats take from the kernel's headers without saying it: a union's layout and a few constants.
//!
//! This is the one place that knows kernel source. A name that is not here makes its event fall back to `name=value`.

/// A member of a union of one word and bit fields: the lowest bit and the width.
pub(super) type Bits = (u8, u8);

/// Where `member` of `union name` lies in the word.
///
/// `union kvm_mmu_page_role` is from arch/x86/include/asm/kvm_host.h; the places are those in the BTF of 6.18. In older
/// sources the named bits lie in the same places: bit 4 was first called gpte_is_8_bytes (with the opposite sense), bit 12
/// nxe; passthrough and is_mirror joined behind the others.
pub(super) fn union_member(name: &str, member: &str) -> Option<Bits> {
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

/// Enumerators that print formats name without the kernel having replaced them by their values. The x86 ones are as in the
/// BTF of 6.18.
pub(super) fn constant(name: &str) -> Option<i32> {
    Some(match name {
        "true" => 1,
        "false" | "NULL" => 0,
        // enum vdso_clock_mode, include/vdso/clocksource.h and arch/x86/include/asm/vdso/clocksource.h.
        "VDSO_CLOCKMODE_NONE" => 0,
        "VDSO_CLOCKMODE_TSC" => 1,
        // enum vm_instruction_error_number, arch/x86/include/asm/vmx.h: numbers of the Intel manual.
        "VMXERR_VMLAUNCH_NONCLEAR_VMCS" => 4,
        "VMXERR_VMRESUME_NONLAUNCHED_VMCS" => 5,
        "VMXERR_VMRESUME_AFTER_VMXOFF" => 6,
        "VMXERR_ENTRY_INVALID_CONTROL_FIELD" => 7,
        "VMXERR_ENTRY_INVALID_HOST_STATE_FIELD" => 8,
        "VMXERR_ENTRY_EVENTS_BLOCKED_BY_MOV_SS" => 26,
        // enum kvm_apicv_inhibit, arch/x86/include/asm/kvm_host.h: 6.1 does not name them in print formats yet.
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
        // enum exception_type, arch/arm64/include/asm/kvm_emulate.h: offsets in the vector table of the architecture.
        "except_type_sync" => 0,
        "except_type_irq" => 0x80,
        "except_type_fiq" => 0x100,
        "except_type_serror" => 0x180,
        _ => return None,
    })
}
