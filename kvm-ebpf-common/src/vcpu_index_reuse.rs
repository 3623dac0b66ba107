//! vCPUs that several threads run in turn.
//!
//! Some VMMs call `KVM_RUN` for one vCPU now in this thread, now in that one. When a thread enters a vCPU that another
//! thread entered last, the exit that is open in the entering thread did not last until now: the vCPU has run
//! meanwhile. Where one process has several VMs, the same vCPU index also stands for different vCPUs; then both threads
//! are inside `KVM_RUN` at once sooner or later.
//!
//! For each process and vCPU index, the thread that entered it last is stored. The rule is applied at each
//! `kvm_entry` of a thread whose vCPU is known, and when a thread becomes known at its first `kvm_exit`.

use crate::VcpuClock;

/// What it means that a thread enters a vCPU index that another thread of the process entered last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuIndexReuse {
    /// The two are different vCPUs with the same index: the process has several VMs. The entering thread is
    /// [`VcpuThread::separate`] from now on, and is not checked any more.
    OtherVm,
    /// The vCPU has moved to the entering thread. The exit that is open there has no time
    /// ([`VcpuClock::interrupt`]); it is counted as moved.
    Moved,
}

/// Decides by the state of the thread that entered the vCPU index last, and whether that thread has ended.
#[inline(always)]
#[must_use]
pub const fn classify_index_reuse(previous: &VcpuClock, previous_ended: bool) -> VcpuIndexReuse {
    if !previous_ended && previous.is_in_kvm_run() {
        VcpuIndexReuse::OtherVm
    } else {
        VcpuIndexReuse::Moved
    }
}

/// Where the eBPF programs remember who entered a vCPU last: an index in a table with `mask + 1` entries, a power of two.
/// The vCPUs of one process have different ones, as long as the table has as many entries.
#[inline(always)]
#[must_use]
pub const fn last_thread_index(tgid: u32, vcpu: u32, mask: u32) -> u32 {
    // Knuth's multiplier (2^32 divided by the golden ratio), as in the kernel's hash_32(): processes are spread.
    tgid.wrapping_mul(0x61C8_8647).wrapping_add(vcpu) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vcpu_moves_when_the_thread_before_has_left_kvm_run() {
        let mut previous = VcpuClock::default();
        previous.on_exit(100, None);
        previous.on_userspace_exit(110);
        assert_eq!(
            classify_index_reuse(&previous, false),
            VcpuIndexReuse::Moved
        );
        // It is not known to have run at all, or it has ended, in whatever state.
        assert_eq!(
            classify_index_reuse(&VcpuClock::default(), false),
            VcpuIndexReuse::Moved
        );
        previous.on_entry(120);
        assert_eq!(classify_index_reuse(&previous, true), VcpuIndexReuse::Moved);
    }

    #[test]
    fn two_threads_inside_kvm_run_are_two_vcpus() {
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
    fn vcpus_of_a_process_do_not_share_a_slot() {
        let mask = 255;
        let mut seen = [false; 256];
        for vcpu in 0..256 {
            let slot = last_thread_index(4_000_000, vcpu, mask) as usize;
            assert!(!seen[slot], "vCPU {vcpu}");
            seen[slot] = true;
        }
    }

    #[test]
    fn processes_are_spread_over_the_slots() {
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
