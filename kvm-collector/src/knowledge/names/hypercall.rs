//! Names of KVM's hypercalls.
//!
//! Source: include/uapi/linux/kvm_para.h, Linux 6.1 and 6.12 (no difference). The four hypercalls of
//! PowerPC and MIPS are left out: the event `kvm_hypercall` exists only on x86.

use super::table::{NumberRange, find_name, single};

/// Returns the name of a hypercall.
pub(crate) fn name(number: u64) -> Option<String> {
    find_name(HYPERCALLS, number)
}

/// All hypercalls of x86.
pub const HYPERCALLS: &[NumberRange] = &[
    single(1, "KVM_HC_VAPIC_POLL_IRQ"),
    single(2, "KVM_HC_MMU_OP"),
    single(3, "KVM_HC_FEATURES"),
    single(5, "KVM_HC_KICK_CPU"),
    single(9, "KVM_HC_CLOCK_PAIRING"),
    single(10, SEND_IPI),
    single(11, "KVM_HC_SCHED_YIELD"),
    single(12, "KVM_HC_MAP_GPA_RANGE"),
];

/// Name of the hypercall that sends inter-processor interrupts.
pub(crate) const SEND_IPI: &str = "KVM_HC_SEND_IPI";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypercalls_have_names() {
        crate::knowledge::names::table::assert_no_duplicates(HYPERCALLS);
        assert_eq!(name(10).as_deref(), Some(SEND_IPI));
        assert_eq!(name(4), None);
    }
}
