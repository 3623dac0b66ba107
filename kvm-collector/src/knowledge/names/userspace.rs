//! Names of the reasons for which KVM_RUN returns to the VMM.
//!
//! Sources: reasons, include/uapi/linux/kvm.h, Linux 6.1 (up to 37) and 6.12 (up to 39); TDX, Linux 6.16.
//! Errors, include/uapi/asm-generic/errno-base.h and errno.h, Linux 6.1 and 6.12: x86 and arm64 share
//! these numbers.

use super::table::{NumberRange, find_name, single};

/// The error of a KVM_RUN that a signal interrupted. The VMM calls KVM_RUN again.
pub(crate) const EINTR: u32 = 4;

/// Returns the key of a return from KVM_RUN in reports: the number of the reason or of the error.
pub(crate) fn key(reason: u64, errno: u32) -> String {
    match error(errno) {
        None => format!("userspace {reason}"),
        Some(EINTR) => "restart".into(),
        Some(error) => format!("error {error}"),
    }
}

/// Returns the name of a reason, `KVM_EXIT_..`, or of an error.
pub(crate) fn name(reason: u64, errno: u32) -> Option<String> {
    match error(errno) {
        None => find_name(REASONS, reason),
        Some(error) => find_name(ERRORS, error.into()),
    }
}

/// Returns true if the VMM must wait until the guest has something to do.
pub(crate) fn is_halt(reason: u64, errno: u32) -> bool {
    error(errno).is_none() && find_name(REASONS, reason).is_some_and(|name| name == HLT)
}

/// Returns the error of a value that is negative if there was one.
pub(crate) fn error(errno: u32) -> Option<u32> {
    let errno = errno.cast_signed();
    (errno < 0).then(|| errno.unsigned_abs())
}

/// Name of the reason for which a VMM without an interrupt controller in the kernel must wait.
const HLT: &str = "KVM_EXIT_HLT";

/// All reasons of the named kernels.
pub const REASONS: &[NumberRange] = &[
    single(0, "KVM_EXIT_UNKNOWN"),
    single(1, "KVM_EXIT_EXCEPTION"),
    single(2, "KVM_EXIT_IO"),
    single(3, "KVM_EXIT_HYPERCALL"),
    single(4, "KVM_EXIT_DEBUG"),
    single(5, HLT),
    single(6, "KVM_EXIT_MMIO"),
    single(7, "KVM_EXIT_IRQ_WINDOW_OPEN"),
    single(8, "KVM_EXIT_SHUTDOWN"),
    single(9, "KVM_EXIT_FAIL_ENTRY"),
    single(10, "KVM_EXIT_INTR"),
    single(11, "KVM_EXIT_SET_TPR"),
    single(12, "KVM_EXIT_TPR_ACCESS"),
    single(13, "KVM_EXIT_S390_SIEIC"),
    single(14, "KVM_EXIT_S390_RESET"),
    single(15, "KVM_EXIT_DCR"),
    single(16, "KVM_EXIT_NMI"),
    single(17, "KVM_EXIT_INTERNAL_ERROR"),
    single(18, "KVM_EXIT_OSI"),
    single(19, "KVM_EXIT_PAPR_HCALL"),
    single(20, "KVM_EXIT_S390_UCONTROL"),
    single(21, "KVM_EXIT_WATCHDOG"),
    single(22, "KVM_EXIT_S390_TSCH"),
    single(23, "KVM_EXIT_EPR"),
    single(24, "KVM_EXIT_SYSTEM_EVENT"),
    single(25, "KVM_EXIT_S390_STSI"),
    single(26, "KVM_EXIT_IOAPIC_EOI"),
    single(27, "KVM_EXIT_HYPERV"),
    single(28, "KVM_EXIT_ARM_NISV"),
    single(29, "KVM_EXIT_X86_RDMSR"),
    single(30, "KVM_EXIT_X86_WRMSR"),
    single(31, "KVM_EXIT_DIRTY_RING_FULL"),
    single(32, "KVM_EXIT_AP_RESET_HOLD"),
    single(33, "KVM_EXIT_X86_BUS_LOCK"),
    single(34, "KVM_EXIT_XEN"),
    single(35, "KVM_EXIT_RISCV_SBI"),
    single(36, "KVM_EXIT_RISCV_CSR"),
    single(37, "KVM_EXIT_NOTIFY"),
    single(38, "KVM_EXIT_LOONGARCH_IOCSR"),
    single(39, "KVM_EXIT_MEMORY_FAULT"),
    // Linux 6.16, and so in none of the packages that `cargo xtask names` downloads.
    single(40, "KVM_EXIT_TDX"),
];

/// Errors that KVM_RUN returns.
pub const ERRORS: &[NumberRange] = &[
    single(1, "EPERM"),
    single(2, "ENOENT"),
    single(EINTR as u64, "EINTR"),
    single(5, "EIO"),
    single(6, "ENXIO"),
    single(7, "E2BIG"),
    single(8, "ENOEXEC"),
    single(9, "EBADF"),
    single(11, "EAGAIN"),
    single(12, "ENOMEM"),
    single(13, "EACCES"),
    single(14, "EFAULT"),
    single(16, "EBUSY"),
    single(17, "EEXIST"),
    single(19, "ENODEV"),
    single(22, "EINVAL"),
    single(25, "ENOTTY"),
    single(28, "ENOSPC"),
    single(38, "ENOSYS"),
    single(95, "EOPNOTSUPP"),
    single(133, "EHWPOISON"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(error: i32) -> u32 {
        error.cast_unsigned()
    }

    #[test]
    fn reasons_have_names() {
        crate::knowledge::names::table::assert_no_duplicates(REASONS);
        crate::knowledge::names::table::assert_no_duplicates(ERRORS);
        assert_eq!(key(6, 0), "userspace 6");
        assert_eq!(name(6, 0).as_deref(), Some("KVM_EXIT_MMIO"));
        assert_eq!(name(99, 0), None);
    }

    #[test]
    fn errors_have_names() {
        for (number, key, name) in [
            (-4, "restart", Some("EINTR")),
            (-14, "error 14", Some("EFAULT")),
            (-999, "error 999", None),
            (i32::MIN, "error 2147483648", None),
        ] {
            assert_eq!(super::key(0, errno(number)), key);
            assert_eq!(super::name(0, errno(number)).as_deref(), name);
        }
    }
}
