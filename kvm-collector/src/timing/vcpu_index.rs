//! Where the index of a thread's vCPU is from.

use crate::tracefs::Format;

/// Returns whether vCPU indices are read from the names of threads
/// ([`vcpu_index_in_comm`](kvm_ebpf_common::vcpu_index_in_comm)): events with these formats tell that a vCPU enters or leaves
/// the guest, but not which one.
#[must_use]
pub fn vcpus_are_named<'f>(formats: impl IntoIterator<Item = &'f Format>) -> bool {
    let transitions = formats.into_iter().filter(|format| {
        ["kvm_exit", "kvm_entry"]
            .iter()
            .any(|it| format.is_event("kvm", it))
    });
    let mut has_any = false;
    for format in transitions {
        has_any = true;
        if format.field("vcpu_id").is_some() {
            return false;
        }
    }
    has_any
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-x86_64/kvm/kvm_exit");
    const ARM_EXIT: &str = include_str!("../../tests/fixtures/formats/6.12-arm64/kvm/kvm_exit");
    const ARM_ENTRY: &str = include_str!("../../tests/fixtures/formats/6.12-arm64/kvm/kvm_entry");
    const ARM_USERSPACE_EXIT: &str =
        include_str!("../../tests/fixtures/formats/6.12-arm64/kvm/kvm_userspace_exit");

    fn are_named(texts: &[&str]) -> bool {
        let formats = texts
            .iter()
            .map(|it| Format::parse("kvm", it).expect("a format"));
        vcpus_are_named(&formats.collect::<Vec<_>>())
    }

    #[test]
    fn names_count_only_if_neither_event_has_the_index() {
        assert!(are_named(&[ARM_EXIT, ARM_ENTRY, ARM_USERSPACE_EXIT]));
        assert!(are_named(&[ARM_ENTRY]));
        assert!(!are_named(&[X86_EXIT]));
        // On x86 before Linux 5.10, one of the two events has it.
        assert!(!are_named(&[ARM_ENTRY, X86_EXIT]));
        assert!(!are_named(&[ARM_USERSPACE_EXIT]));
        assert!(!are_named(&[]));
    }
}
