//! Layouts that the print format itself identifies, for kernels without BTF and recordings of perf.

use super::Local;
use crate::tracefs::kernel_types::BitRange;

/// Returns the bits of a member of a union. `locals` are the names that the print format declares.
///
/// `union kvm_mmu_page_role` is in arch/x86/include/asm/kvm_host.h. Print formats look up `role.access`
/// in a table of strings. While `access` had 3 bits, the table had 8 strings. All these kernels have the
/// same bits: their events are printed like ftrace prints them on Linux 5.8 to 6.18. Two members had other
/// names in the oldest of them: bit 4 was gpte_is_8_bytes (with the opposite meaning), and bit 12 was nxe.
/// With another number of strings the layout is not known: in Linux 7.2.13, `access` has 4 bits, and
/// what follows it moved.
pub(super) fn member_bits(
    type_name: &str,
    member: &str,
    locals: &[(String, Local)],
) -> Option<BitRange> {
    let has_3_access_bits = locals.iter().any(|(name, local)| {
        name == "access_str" && matches!(local, Local::StringArray(texts) if texts.len() == 8)
    });
    if type_name != "union kvm_mmu_page_role" || !has_3_access_bits {
        return None;
    }
    let (first, count) = match member {
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
        "smm" => (24, 8),
        _ => return None,
    };
    BitRange::new(first, count)
}
