//! vCPUs that move between threads.
//!
//! Some VMMs call `KVM_RUN` for one vCPU from several threads in turn. If another thread entered the vCPU last, the exit
//! that is open in the entering thread ended some time before, because the vCPU has run in between. If a process has
//! several VMs, the same vCPU index may also belong to different vCPUs. Then both threads are inside `KVM_RUN` at the
//! same time sooner or later.
//!
//! For each process and vCPU index, the thread that entered last is stored. The rule is applied at each `kvm_entry` of a
//! thread with a known vCPU, and at the first `kvm_exit` of a new thread.

use crate::VcpuClock;

/// Value of [`VcpuThread::check_vcpu_index`](crate::VcpuThread::check_vcpu_index): another vCPU replaced this one in the
/// table of the threads that last entered a vCPU.
pub const VCPU_WAS_REPLACED: u32 = 1;

/// Value of [`VcpuThread::check_vcpu_index`](crate::VcpuThread::check_vcpu_index): another thread entered the vCPU. That
/// thread may have ended since, and its entry may be free or belong to a third thread.
pub const VCPU_RAN_IN_OTHER_THREAD: u32 = 2;

/// Meaning of an entry to a vCPU index that another thread of the process entered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuIndexReuse {
    /// The process has several VMs with a vCPU of this index. The entering thread is marked with
    /// [`VcpuThread::shares_vcpu_index`](crate::VcpuThread::shares_vcpu_index) and not checked again.
    OtherVm,
    /// The vCPU has moved to the entering thread. The exit that is open there is counted as moved, without a
    /// duration.
    Moved,
}

/// Classifies by the state of the thread that entered the vCPU index last, and whether it has ended.
#[inline(always)]
#[must_use]
pub const fn classify_index_reuse(previous: &VcpuClock, previous_ended: bool) -> VcpuIndexReuse {
    if !previous_ended && previous.is_in_kvm_run() {
        VcpuIndexReuse::OtherVm
    } else {
        VcpuIndexReuse::Moved
    }
}

/// Returns the index of a vCPU in the table of the threads that last entered a vCPU. The table has `mask + 1` entries, a
/// power of two. Different vCPUs of a process have different indices, if the table is large enough.
#[inline(always)]
#[must_use]
pub const fn last_thread_index(tgid: u32, vcpu: u32, mask: u32) -> u32 {
    // The multiplier of the kernel's hash_32() (2^32 divided by the golden ratio) spreads processes over the table.
    tgid.wrapping_mul(0x61C8_8647).wrapping_add(vcpu) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_has_moved_if_the_previous_thread_has_left_kvm_run() {
        let mut previous = VcpuClock::default();
        previous.on_exit(100, None);
        previous.on_userspace_exit(110);
        assert_eq!(
            classify_index_reuse(&previous, false),
            VcpuIndexReuse::Moved
        );
        // The previous thread has not been seen to run, or it has ended in any state.
        assert_eq!(
            classify_index_reuse(&VcpuClock::default(), false),
            VcpuIndexReuse::Moved
        );
        previous.on_entry(120);
        assert_eq!(classify_index_reuse(&previous, true), VcpuIndexReuse::Moved);
    }

    #[test]
    fn two_threads_inside_kvm_run_run_two_vcpus() {
        let mut previous = VcpuClock::default();
        previous.on_entry(100);
        assert_eq!(
            classify_index_reuse(&previous, false),
            VcpuIndexReuse::OtherVm
        );
        previous.on_exit(110, None);
        assert_eq!(
            classify_index_reuse(&previous, false),
            VcpuIndexReuse::OtherVm
        );
    }

    #[test]
    fn vcpus_of_a_process_have_different_indices() {
        let mask = 255;
        let mut seen = [false; 256];
        for vcpu in 0..256 {
            let slot = last_thread_index(4_000_000, vcpu, mask) as usize;
            assert!(!seen[slot], "vCPU {vcpu}");
            seen[slot] = true;
        }
    }

    #[test]
    fn processes_are_spread_over_the_table() {
        let mask = 16_383;
        let mut seen = [false; 16_384];
        let mut shared = 0;
        // 512 VMs of 8 vCPUs, started one after the other.
        for vm in 0..512 {
            for vcpu in 0..8 {
                let slot = last_thread_index(10_000 + 13 * vm, vcpu, mask) as usize;
                shared += u32::from(core::mem::replace(&mut seen[slot], true));
            }
        }
        assert!(shared < 512, "{shared} of 4096");
    }
}
