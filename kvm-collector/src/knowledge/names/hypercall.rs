//! Names of KVM's hypercalls. (Linux 6.1, include/uapi/linux/kvm_para.h; those of other architectures than x86,
//! where `kvm_hypercall` does not happen, are left out.)

use super::table::{Known, find, one};

/// What the hypercall is called.
pub(crate) fn name(number: u64) -> Option<String> {
    find(HYPERCALLS, number)
}

const HYPERCALLS: &[Known] = &[
    one(1, "KVM_HC_VAPIC_POLL_IRQ"),
    one(2, "KVM_HC_MMU_OP"),
    one(3, "KVM_HC_FEATURES"),
    one(5, "KVM_HC_KICK_CPU"),
    one(9, "KVM_HC_CLOCK_PAIRING"),
    one(10, "KVM_HC_SEND_IPI"),
    one(11, "KVM_HC_SCHED_YIELD"),
    one(12, "KVM_HC_MAP_GPA_RANGE"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypercalls_have_one_name() {
        crate::knowledge::names::table::assert_no_number_twice(HYPERCALLS);
        assert_eq!(name(10).as_deref(), Some("KVM_HC_SEND_IPI"));
        assert_eq!(name(4), None);
    }
}
