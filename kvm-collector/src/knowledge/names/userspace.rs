//! Names of what KVM hands to the VMM. (Linux 6.16, include/uapi/linux/kvm.h; errors: 6.1,
//! include/uapi/asm-generic/errno-base.h and errno.h, whose numbers x86 and arm64 share.)

use super::table::{Known, find, one};

/// The error of `EINTR`: the thread got a signal, and KVM_RUN is called again.
const EINTR: u32 = 4;

/// What KVM_RUN returned for, in words for a program: a reason's number, or that there was none.
pub(crate) fn key(reason: u64, errno: u32) -> String {
    match error(errno) {
        None => format!("userspace {reason}"),
        Some(EINTR) => "restart".into(),
        Some(error) => format!("error {error}"),
    }
}

/// What KVM_RUN returned for, where the running kernel has no name.
pub(crate) fn name(reason: u64, errno: u32) -> Option<String> {
    match error(errno) {
        None => find(REASONS, reason).map(|name| format!("KVM_EXIT_{name}")),
        Some(error) => find(ERRORS, error.into()),
    }
}

/// Is the VMM to wait until the guest has something to do?
pub(crate) fn is_halt(reason: u64, errno: u32) -> bool {
    const HLT: u64 = 5;
    error(errno).is_none() && reason == HLT
}

/// The error, of a value that is negative if there was one.
pub(crate) fn error(errno: u32) -> Option<u32> {
    let errno = errno.cast_signed();
    (errno < 0).then(|| errno.unsigned_abs())
}

const REASONS: &[Known] = &[
    one(0, "UNKNOWN"),
    one(1, "EXCEPTION"),
    one(2, "IO"),
    one(3, "HYPERCALL"),
    one(4, "DEBUG"),
    one(5, "HLT"),
    one(6, "MMIO"),
    one(7, "IRQ_WINDOW_OPEN"),
    one(8, "SHUTDOWN"),
    one(9, "FAIL_ENTRY"),
    one(10, "INTR"),
    one(11, "SET_TPR"),
    one(12, "TPR_ACCESS"),
    one(13, "S390_SIEIC"),
    one(14, "S390_RESET"),
    one(15, "DCR"),
    one(16, "NMI"),
    one(17, "INTERNAL_ERROR"),
    one(18, "OSI"),
    one(19, "PAPR_HCALL"),
    one(20, "S390_UCONTROL"),
    one(21, "WATCHDOG"),
    one(22, "S390_TSCH"),
    one(23, "EPR"),
    one(24, "SYSTEM_EVENT"),
    one(25, "S390_STSI"),
    one(26, "IOAPIC_EOI"),
    one(27, "HYPERV"),
    one(28, "ARM_NISV"),
    one(29, "X86_RDMSR"),
    one(30, "X86_WRMSR"),
    one(31, "DIRTY_RING_FULL"),
    one(32, "AP_RESET_HOLD"),
    one(33, "X86_BUS_LOCK"),
    one(34, "XEN"),
    one(35, "RISCV_SBI"),
    one(36, "RISCV_CSR"),
    one(37, "NOTIFY"),
    one(38, "LOONGARCH_IOCSR"),
    one(39, "MEMORY_FAULT"),
    one(40, "TDX"),
];

const ERRORS: &[Known] = &[
    one(1, "EPERM"),
    one(2, "ENOENT"),
    one(4, "EINTR"),
    one(5, "EIO"),
    one(6, "ENXIO"),
    one(7, "E2BIG"),
    one(8, "ENOEXEC"),
    one(9, "EBADF"),
    one(11, "EAGAIN"),
    one(12, "ENOMEM"),
    one(13, "EACCES"),
    one(14, "EFAULT"),
    one(16, "EBUSY"),
    one(17, "EEXIST"),
    one(19, "ENODEV"),
    one(22, "EINVAL"),
    one(25, "ENOTTY"),
    one(28, "ENOSPC"),
    one(38, "ENOSYS"),
    one(95, "EOPNOTSUPP"),
    one(133, "EHWPOISON"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(error: i32) -> u32 {
        error.cast_unsigned()
    }

    #[test]
    fn reasons_have_one_name() {
        crate::knowledge::names::table::assert_no_number_twice(REASONS);
        crate::knowledge::names::table::assert_no_number_twice(ERRORS);
        assert_eq!(key(6, 0), "userspace 6");
        assert_eq!(name(6, 0).as_deref(), Some("KVM_EXIT_MMIO"));
        assert_eq!(name(99, 0), None);
    }

    #[test]
    fn errors_are_no_reasons() {
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
