//! The state machine of a vCPU thread. It takes KVM events with their times and returns spans: the
//! time of each exit, divided into VMM, halted, preempted and kernel time.
//!
//! ```text
//!  guest | kernel | VMM's user space | kernel | halted | kernel | guest
//!     kvm_exit  kvm_userspace_exit       kvm_vcpu_wakeup     kvm_entry
//! ```
//!
//! The eBPF programs run it as events happen. User space runs it on recorded events. A thread runs
//! on one CPU at a time, so its events arrive in time order.

use crate::Key;

/// Breakdown of the time of a [`Span`]. The remaining time was spent in the kernel.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanBreakdown {
    /// Time in the VMM's user space: from `kvm_userspace_exit` to the next event of the thread in
    /// the kernel.
    pub vmm_ns: u64,
    /// Time halted, polling included, as `kvm_vcpu_wakeup` reports it.
    pub halted_ns: u64,
    /// Time in which the thread was runnable but did not run. Needs `sched_switch`.
    pub preempted_ns: u64,
}

/// A time interval outside the guest with one key: an exit, or a part of one.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Key under which the span is counted.
    pub key: Key,
    /// Duration.
    pub total_ns: u64,
    /// Breakdown of the duration.
    pub breakdown: SpanBreakdown,
}

impl Span {
    /// Returns the duration without halted time. A guest requests a halt, so a long one is normal.
    #[inline(always)]
    #[must_use]
    pub const fn busy_ns(&self) -> u64 {
        saturating_sub(self.total_ns, self.breakdown.halted_ns)
    }

    /// Returns whether the span is slow: its busy time exceeds the limit. `u64::MAX` is no limit.
    #[inline(always)]
    #[must_use]
    pub const fn is_slow(&self, slow_ns: u64) -> bool {
        slow_ns != u64::MAX && self.busy_ns() > slow_ns
    }
}

/// Returns whether the previous thread of a `sched_switch` is waiting. Otherwise it is runnable.
///
/// `prev_state` is the event's field of that name. The tested bits are those of `TASK_REPORT`
/// (include/linux/sched.h). A higher bit distinguishes preemption from yielding.
#[inline(always)]
#[must_use]
pub const fn is_waiting(prev_state: u64) -> bool {
    const TASK_REPORT: u64 = 0xff;
    prev_state & TASK_REPORT != 0
}

/// State of a vCPU thread between two events. Points in time are `CLOCK_MONOTONIC`; 0 means that the
/// state does not apply.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuClock {
    /// Time of the last entry, if the thread is in the guest.
    pub guest_since_ns: u64,
    /// Total time in the guest before that entry.
    pub guest_ns: u64,
    /// Time of the exit, if an exit is open: the thread is outside the guest.
    pub exit_ns: u64,
    /// Start of the current span: the exit, or a later detail event.
    pub span_start_ns: u64,
    /// Time of the return to user space, if the thread is there.
    pub vmm_since_ns: u64,
    /// Start of the current preemption. An event of the thread proves that it runs again. If no
    /// `sched_switch` to the thread was seen before it, the preemption is discarded.
    pub preempted_since_ns: u64,
    /// Start of the last completed preemption.
    pub last_preemption_start_ns: u64,
    /// Duration of the last completed preemption.
    pub last_preemption_ns: u64,
    /// Breakdown of the current span so far.
    pub breakdown: SpanBreakdown,
    /// Key of the current span. Valid if `has_key` is 1.
    pub key: Key,
    /// 1 if the current span has a key. If detail events are counted, a span has none before the
    /// first one.
    pub has_key: u64,
}

impl VcpuClock {
    /// State before the first event.
    pub const NEW: Self = Self {
        guest_since_ns: 0,
        guest_ns: 0,
        exit_ns: 0,
        span_start_ns: 0,
        vmm_since_ns: 0,
        preempted_since_ns: 0,
        last_preemption_start_ns: 0,
        last_preemption_ns: 0,
        breakdown: SpanBreakdown {
            vmm_ns: 0,
            halted_ns: 0,
            preempted_ns: 0,
        },
        key: Key {
            code: 0,
            subcode: 0,
            kind: 0,
        },
        has_key: 0,
    };

    /// Handles `kvm_exit`. Returns the key of the previous exit if no entry followed it. That exit
    /// has no duration.
    #[inline(always)]
    pub fn on_exit(&mut self, now_ns: u64, key: Option<Key>) -> Option<Key> {
        let unmatched = self.open_key();
        if self.guest_since_ns != 0 {
            self.guest_ns += saturating_sub(now_ns, self.guest_since_ns);
            self.guest_since_ns = 0;
        }
        self.exit_ns = now_ns;
        self.vmm_since_ns = 0;
        self.start_span(now_ns, key);
        unmatched
    }

    /// Returns the key of the span in progress.
    #[inline(always)]
    #[must_use]
    pub fn open_key(&self) -> Option<Key> {
        (self.exit_ns != 0 && self.has_key != 0).then_some(self.key)
    }

    /// Discards all intervals in progress, because events of the thread may be missing.
    ///
    /// If an entry and an exit are missing, two exits would look like one, and time outside the
    /// guest like guest time. Returns the key of the span in progress, which has no duration.
    #[inline(always)]
    pub fn reset_after_gap(&mut self) -> Option<Key> {
        self.guest_since_ns = 0;
        self.discard_exit()
    }

    /// Discards the exit in progress, because its vCPU has run in another thread since. Guest time in
    /// progress is this thread's: it has entered the vCPU after the other thread.
    ///
    /// Returns the key of the span in progress, which has no duration.
    #[inline(always)]
    pub fn discard_exit(&mut self) -> Option<Key> {
        let key = self.open_key();
        self.exit_ns = 0;
        self.has_key = 0;
        self.vmm_since_ns = 0;
        self.preempted_since_ns = 0;
        key
    }

    /// Handles `kvm_entry`. Returns the span that ends here.
    #[inline(always)]
    pub fn on_entry(&mut self, now_ns: u64) -> Option<Span> {
        self.guest_since_ns = now_ns;
        if self.exit_ns == 0 {
            return None;
        }
        self.exit_ns = 0;
        (self.has_key != 0).then(|| self.end_span(now_ns))
    }

    /// Moves the guest time since the last `kvm_entry` to the clock of another vCPU.
    ///
    /// `kvm_entry` may not say which vCPU is entered. If the next `kvm_exit` names another vCPU than
    /// this one, the time belongs to that vCPU.
    #[inline(always)]
    pub fn move_guest_time_to(&mut self, to: &mut Self) {
        let since_ns = self.guest_since_ns;
        self.guest_since_ns = 0;
        to.guest_since_ns = since_ns;
    }

    /// Returns whether the thread is inside `KVM_RUN`: in the guest, or in an exit that has not
    /// returned to user space.
    #[inline(always)]
    #[must_use]
    pub const fn is_in_kvm_run(&self) -> bool {
        self.guest_since_ns != 0 || (self.exit_ns != 0 && self.vmm_since_ns == 0)
    }

    /// Handles `kvm_userspace_exit`: the thread returns to the VMM.
    #[inline(always)]
    pub fn on_userspace_exit(&mut self, now_ns: u64) {
        self.preempted_since_ns = 0;
        if self.exit_ns != 0 && self.vmm_since_ns == 0 {
            self.vmm_since_ns = now_ns;
        }
    }

    /// Handles `kvm_vcpu_wakeup`: the thread was halted for the last `halted_ns`.
    #[inline(always)]
    pub fn on_wakeup(&mut self, now_ns: u64, halted_ns: u64) {
        if self.exit_ns == 0 {
            return;
        }
        self.preempted_since_ns = 0;
        let halt_start_ns = later_of(now_ns.saturating_sub(halted_ns), self.span_start_ns);
        // The thread may have been preempted while it polled. That part is not halted time.
        let preemption_end_ns = self
            .last_preemption_start_ns
            .saturating_add(self.last_preemption_ns);
        let preempted_ns = preemption_end_ns
            .saturating_sub(later_of(halt_start_ns, self.last_preemption_start_ns));
        if self.vmm_since_ns != 0 {
            // A thread that halts has left user space. on_switch_in() excluded the preemption from
            // the VMM time, but it was part of the halt: undo that.
            self.vmm_since_ns = self.vmm_since_ns.saturating_sub(preempted_ns);
            self.end_vmm_time(halt_start_ns, now_ns);
        }
        let halted_ns = saturating_sub(saturating_sub(now_ns, halt_start_ns), preempted_ns);
        self.breakdown.halted_ns += self.limit_to_unassigned(halted_ns, now_ns);
    }

    /// Handles a detail event, if detail events are counted instead of exits.
    ///
    /// The first one of an exit sets the key of the span. A later one starts a new span, and the
    /// previous span is returned.
    ///
    /// # Errors
    /// Returns the key if no exit is open. The event has no duration then.
    #[inline(always)]
    pub fn on_detail_event(&mut self, now_ns: u64, key: Key) -> Result<Option<Span>, Key> {
        if self.exit_ns == 0 {
            return Err(key);
        }
        self.preempted_since_ns = 0;
        self.end_vmm_time(now_ns, now_ns);
        if self.has_key == 0 {
            self.key = key;
            self.has_key = 1;
            return Ok(None);
        }
        let previous = self.end_span(now_ns);
        self.start_span(now_ns, Some(key));
        Ok(Some(previous))
    }

    /// Handles a `sched_switch` away from the thread while it is runnable.
    #[inline(always)]
    pub fn on_switch_out(&mut self, now_ns: u64) {
        if self.exit_ns != 0 {
            self.preempted_since_ns = now_ns;
        }
    }

    /// Handles a `sched_switch` to the thread.
    #[inline(always)]
    pub fn on_switch_in(&mut self, now_ns: u64) {
        if self.preempted_since_ns == 0 {
            return;
        }
        let preempted_ns = saturating_sub(now_ns, self.preempted_since_ns);
        let preempted_ns = self.limit_to_unassigned(preempted_ns, now_ns);
        self.breakdown.preempted_ns += preempted_ns;
        // A preemption in user space is not VMM time.
        if self.vmm_since_ns != 0 {
            self.vmm_since_ns += preempted_ns;
        }
        self.last_preemption_start_ns = self.preempted_since_ns;
        self.last_preemption_ns = preempted_ns;
        self.preempted_since_ns = 0;
    }

    #[inline(always)]
    fn end_vmm_time(&mut self, end_ns: u64, now_ns: u64) {
        if self.vmm_since_ns != 0 {
            let vmm_ns = saturating_sub(end_ns, self.vmm_since_ns);
            self.breakdown.vmm_ns += self.limit_to_unassigned(vmm_ns, now_ns);
            self.vmm_since_ns = 0;
        }
    }

    /// Limits a duration to the time of the span that the breakdown does not contain yet.
    ///
    /// The parts of a breakdown do not overlap. They would only if an event is missing or reports a
    /// wrong number.
    #[inline(always)]
    fn limit_to_unassigned(&self, ns: u64, now_ns: u64) -> u64 {
        let assigned_ns =
            self.breakdown.vmm_ns + self.breakdown.halted_ns + self.breakdown.preempted_ns;
        let limit_ns = saturating_sub(saturating_sub(now_ns, self.span_start_ns), assigned_ns);
        if ns < limit_ns { ns } else { limit_ns }
    }

    #[inline(always)]
    fn start_span(&mut self, now_ns: u64, key: Option<Key>) {
        self.span_start_ns = now_ns;
        self.preempted_since_ns = 0;
        self.breakdown = SpanBreakdown {
            vmm_ns: 0,
            halted_ns: 0,
            preempted_ns: 0,
        };
        match key {
            Some(key) => {
                self.key = key;
                self.has_key = 1;
            }
            None => self.has_key = 0,
        }
    }

    #[inline(always)]
    fn end_span(&mut self, now_ns: u64) -> Span {
        self.end_vmm_time(now_ns, now_ns);
        Span {
            key: self.key,
            total_ns: saturating_sub(now_ns, self.span_start_ns),
            breakdown: self.breakdown,
        }
    }
}

/// Returns whether a number can be a time for [`VcpuClock`]: below 2^63 ns, which is 292 years.
///
/// Times from the kernel always are. Numbers in a file may not be.
#[inline(always)]
#[must_use]
pub const fn is_valid_time(ns: u64) -> bool {
    ns < 1 << 63
}

/// Returns the difference of two times, or 0 if it is negative. Both must satisfy [`is_valid_time`].
///
/// BPF has no saturating subtraction. This takes half the instructions of `u64::saturating_sub`.
#[inline(always)]
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "both times are below 2^63"
)]
const fn saturating_sub(later_ns: u64, earlier_ns: u64) -> u64 {
    let ns = later_ns.wrapping_sub(earlier_ns) as i64;
    if ns < 0 { 0 } else { ns as u64 }
}

#[inline(always)]
const fn later_of(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

const _: () = assert!(size_of::<SpanBreakdown>() == 24);
const _: () = assert!(size_of::<VcpuClock>() == 8 * 8 + 24 + 16 + 8);

crate::pod::pod!(SpanBreakdown, Span, VcpuClock);

#[cfg(test)]
mod tests;
