//! Where a vCPU's thread is, and since when: the rules by which events become times.
//!
//! ```text
//!  guest | kernel | VMM's user space | kernel | halted | kernel | guest
//!     kvm_exit  kvm_userspace_exit       kvm_vcpu_wakeup     kvm_entry
//! ```
//!
//! Both halves follow these rules: the kernel half as events happen, user space when it reads a
//! recording. A thread is on one CPU at a time, so its events come in the order of their times.

use crate::Key;

/// How the time of a [`Span`] divides. What is left of it was spent in the kernel.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanBreakdown {
    /// In the VMM's user space: from `kvm_userspace_exit` until the thread is seen in the kernel again.
    pub vmm_ns: u64,
    /// Halted: polling for or waiting for something to do, as `kvm_vcpu_wakeup` says it.
    pub halted_ns: u64,
    /// Ready to run, but not running (only where `sched_switch` is watched).
    pub preempted_ns: u64,
}

/// Time out of the guest with one key: an exit, or a part of one.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// What it is counted under.
    pub key: Key,
    /// How long it took, all parts together.
    pub total_ns: u64,
    /// How that divides.
    pub breakdown: SpanBreakdown,
}

impl Span {
    /// The time less what the guest was halted: a guest asks for a halt, and it may last.
    #[inline(always)]
    #[must_use]
    pub const fn busy_ns(&self) -> u64 {
        saturating_sub(self.total_ns, self.breakdown.halted_ns)
    }

    /// Is it reported as slow? `u64::MAX` reports none.
    #[inline(always)]
    #[must_use]
    pub const fn is_slow(&self, slow_ns: u64) -> bool {
        slow_ns != u64::MAX && self.busy_ns() > slow_ns
    }
}

/// Does a thread that `sched_switch` switches from wait for something? If not, it is ready to run.
///
/// `prev_state` is the field of that name. The bits are those of `TASK_REPORT` (include/linux/sched.h); whether a ready
/// thread was preempted or yielded is a bit above them.
#[inline(always)]
#[must_use]
pub const fn is_waiting(prev_state: u64) -> bool {
    const TASK_REPORT: u64 = 0xff;
    prev_state & TASK_REPORT != 0
}

/// A vCPU's thread between two events. Times are of `CLOCK_MONOTONIC`; 0 stands for "not".
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuClock {
    /// Since when it has been in the guest.
    pub guest_since_ns: u64,
    /// How long it was in the guest before that, in all.
    pub guest_ns: u64,
    /// When it left the guest, if it is out.
    pub exit_ns: u64,
    /// When the current span began: when it left the guest, or at an event of the kind that is
    /// counted.
    pub span_start_ns: u64,
    /// Since when it has been in user space.
    pub vmm_since_ns: u64,
    /// Since when it has been ready, but not running. A thread that does something runs: if that it
    /// was put back was not seen, this ends without a time.
    pub preempted_since_ns: u64,
    /// When it was so last, and for how long.
    pub last_preemption_start_ns: u64,
    /// See `last_out_ns`.
    pub last_preemption_ns: u64,
    /// The current span's, so far.
    pub breakdown: SpanBreakdown,
    /// The current span's, if `keyed`.
    pub key: Key,
    /// The current span has a key; where only a certain kind of event gives one, not every span has.
    pub has_key: u64,
}

impl VcpuClock {
    /// Of a thread of which nothing has been seen yet.
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

    /// `kvm_exit`. Returns the key of an exit before it that no entry followed: it has no time.
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

    /// The key of the span that is not over.
    #[inline(always)]
    #[must_use]
    pub fn open_key(&self) -> Option<Key> {
        (self.exit_ns != 0 && self.has_key != 0).then_some(self.key)
    }

    /// Events of the thread may be missing here. An entry and an exit among them would make a span of
    /// what were two, and time in the guest of what was not; so whatever had begun has no end. Returns
    /// the key of a span that is without a time for that.
    #[inline(always)]
    pub fn reset_after_gap(&mut self) -> Option<Key> {
        let unmatched = self.open_key();
        self.guest_since_ns = 0;
        self.exit_ns = 0;
        self.has_key = 0;
        self.vmm_since_ns = 0;
        self.preempted_since_ns = 0;
        unmatched
    }

    /// `kvm_entry`. Returns the span that ends with it.
    #[inline(always)]
    pub fn on_entry(&mut self, now_ns: u64) -> Option<Span> {
        self.guest_since_ns = now_ns;
        if self.exit_ns == 0 {
            return None;
        }
        self.exit_ns = 0;
        (self.has_key != 0).then(|| self.end_span(now_ns))
    }

    /// Hands over the time in the guest since the last `kvm_entry`, when the next `kvm_exit` says that the thread entered
    /// another vCPU than this one: it belongs to that one's clock.
    #[inline(always)]
    pub fn move_guest_time_to(&mut self, to: &mut Self) {
        let since_ns = self.guest_since_ns;
        self.guest_since_ns = 0;
        to.guest_since_ns = since_ns;
    }

    /// Is the thread inside `KVM_RUN`? It is in the guest, or between an exit and its return to user space.
    #[inline(always)]
    #[must_use]
    pub const fn is_in_kvm_run(&self) -> bool {
        self.guest_since_ns != 0 || (self.exit_ns != 0 && self.vmm_since_ns == 0)
    }

    /// `kvm_userspace_exit`: the thread returns to the VMM.
    #[inline(always)]
    pub fn on_userspace_exit(&mut self, now_ns: u64) {
        self.preempted_since_ns = 0;
        if self.exit_ns != 0 && self.vmm_since_ns == 0 {
            self.vmm_since_ns = now_ns;
        }
    }

    /// `kvm_vcpu_wakeup`: the thread was halted for so long until now.
    #[inline(always)]
    pub fn on_wakeup(&mut self, now_ns: u64, halted_ns: u64) {
        if self.exit_ns == 0 {
            return;
        }
        self.preempted_since_ns = 0;
        let began_ns = later_of(now_ns.saturating_sub(halted_ns), self.span_start_ns);
        // It may have been preempted while it polled, and is halted for what is left.
        let back_ns = self
            .last_preemption_start_ns
            .saturating_add(self.last_preemption_ns);
        let out_ns = back_ns.saturating_sub(later_of(began_ns, self.last_preemption_start_ns));
        // A thread that halts is back from user space. What it was out for since was not taken from there.
        if self.vmm_since_ns != 0 {
            self.vmm_since_ns = self.vmm_since_ns.saturating_sub(out_ns);
            self.end_vmm_time(began_ns, now_ns);
        }
        let halted_ns = saturating_sub(saturating_sub(now_ns, began_ns), out_ns);
        self.breakdown.halted_ns += self.limit_to_unassigned(halted_ns, now_ns);
    }

    /// An event of the kind that is counted, if that kind is not the exit itself. The first one of an
    /// exit gives it its key. A further one begins a span of its own; the one before is returned.
    /// What happens while the thread is not known to be out has no time; that is `Err`.
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
        let before = self.end_span(now_ns);
        self.start_span(now_ns, Some(key));
        Ok(Some(before))
    }

    /// `sched_switch` from the thread, which is ready to go on.
    #[inline(always)]
    pub fn on_switch_out(&mut self, now_ns: u64) {
        if self.exit_ns != 0 {
            self.preempted_since_ns = now_ns;
        }
    }

    /// `sched_switch` to the thread.
    #[inline(always)]
    pub fn on_switch_in(&mut self, now_ns: u64) {
        if self.preempted_since_ns == 0 {
            return;
        }
        let out_ns = saturating_sub(now_ns, self.preempted_since_ns);
        let out_ns = self.limit_to_unassigned(out_ns, now_ns);
        self.breakdown.preempted_ns += out_ns;
        // It was preempted in user space: that time is not the VMM's.
        if self.vmm_since_ns != 0 {
            self.vmm_since_ns += out_ns;
        }
        self.last_preemption_start_ns = self.preempted_since_ns;
        self.last_preemption_ns = out_ns;
        self.preempted_since_ns = 0;
    }

    #[inline(always)]
    fn end_vmm_time(&mut self, left_ns: u64, now_ns: u64) {
        if self.vmm_since_ns != 0 {
            let vmm_ns = saturating_sub(left_ns, self.vmm_since_ns);
            self.breakdown.vmm_ns += self.limit_to_unassigned(vmm_ns, now_ns);
            self.vmm_since_ns = 0;
        }
    }

    /// What belongs to one part of the span belongs to no other. That events say otherwise takes one
    /// that was not seen, or a number that is wrong.
    #[inline(always)]
    fn limit_to_unassigned(&self, ns: u64, now_ns: u64) -> u64 {
        let parts_ns =
            self.breakdown.vmm_ns + self.breakdown.halted_ns + self.breakdown.preempted_ns;
        let rest_ns = saturating_sub(saturating_sub(now_ns, self.span_start_ns), parts_ns);
        if ns < rest_ns { ns } else { rest_ns }
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

/// Whether a clock can have said so: the 292 years from its start are what [`VcpuClock`] counts with. A kernel's always
/// has; what stands in a file need not be a time.
#[inline(always)]
#[must_use]
pub const fn is_valid_time(ns: u64) -> bool {
    ns < 1 << 63
}

/// From one time to another, and 0 if that was later. (BPF has no subtraction that saturates: this is half as long as
/// what would become of one. Of two for which [`is_time`] holds, this is right.)
#[inline(always)]
#[expect(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "see above"
)]
const fn saturating_sub(now_ns: u64, then_ns: u64) -> u64 {
    let ns = now_ns.wrapping_sub(then_ns) as i64;
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
mod tests {
    use super::*;

    fn key(code: u64) -> Key {
        Key {
            code,
            subcode: 0,
            kind: 0,
        }
    }

    /// A thread that left the guest at 100.
    fn out() -> VcpuClock {
        let mut clock = VcpuClock::default();
        assert_eq!(clock.on_exit(100, Some(key(1))), None);
        clock
    }

    fn parts(vmm_ns: u64, halted_ns: u64, preempted_ns: u64) -> SpanBreakdown {
        SpanBreakdown {
            vmm_ns,
            halted_ns,
            preempted_ns,
        }
    }

    fn ended(mut clock: VcpuClock, now_ns: u64) -> (u64, SpanBreakdown) {
        let span = clock.on_entry(now_ns).expect("it was out");
        (span.total_ns, span.breakdown)
    }

    #[test]
    fn an_exit_lasts_until_the_next_entry() {
        let mut clock = out();
        assert_eq!(clock.open_key(), Some(key(1)));
        let span = clock.on_entry(130).expect("it was out");
        assert_eq!(
            (span.key, span.total_ns, span.breakdown),
            (key(1), 30, parts(0, 0, 0))
        );
        assert_eq!(clock.open_key(), None);
        assert_eq!(clock.on_entry(140), None, "it is in already");
    }

    #[test]
    fn time_in_the_guest_is_from_an_entry_to_the_next_exit() {
        let mut clock = out();
        clock.on_entry(130);
        clock.on_exit(170, Some(key(1)));
        assert_eq!(clock.guest_ns, 40);
        clock.on_exit(180, Some(key(1)));
        assert_eq!(clock.guest_ns, 40, "it was out");
        // Between two entries an exit was not seen: since when it is in the guest is not known before.
        clock.on_entry(200);
        clock.on_entry(230);
        clock.on_exit(250, Some(key(1)));
        assert_eq!(clock.guest_ns, 60);
    }

    #[test]
    fn time_in_the_guest_belongs_to_the_vcpu_that_exits() {
        let mut first = out();
        first.on_entry(130);
        first.on_exit(140, Some(key(1)));
        first.on_entry(150);
        let mut second = VcpuClock::default();
        first.move_guest_time_to(&mut second);
        second.on_exit(180, Some(key(2)));
        assert_eq!((first.guest_ns, first.guest_since_ns), (10, 0));
        assert_eq!((second.guest_ns, second.guest_since_ns), (30, 0));
        // Nothing is handed over when no entry was seen.
        first.move_guest_time_to(&mut second);
        assert_eq!(second.guest_since_ns, 0);
    }

    #[test]
    fn a_thread_is_in_kvm_run_until_it_returns_to_user_space() {
        let mut clock = VcpuClock::default();
        assert!(!clock.is_in_kvm_run(), "nothing is known");
        clock.on_exit(100, None);
        assert!(clock.is_in_kvm_run());
        clock.on_userspace_exit(110);
        assert!(!clock.is_in_kvm_run());
        clock.on_entry(120);
        assert!(clock.is_in_kvm_run());
    }

    #[test]
    fn an_exit_after_an_exit_leaves_the_first_without_a_time() {
        let mut clock = out();
        clock.on_userspace_exit(105);
        assert_eq!(clock.on_exit(150, Some(key(2))), Some(key(1)));
        let span = clock.on_entry(160).expect("it was out");
        assert_eq!(
            (span.key, span.total_ns, span.breakdown),
            (key(2), 10, parts(0, 0, 0))
        );
    }

    #[test]
    fn user_space_has_the_time_until_the_entry() {
        let mut clock = out();
        clock.on_userspace_exit(110);
        // Interrupted on its way to the guest.
        clock.on_userspace_exit(120);
        assert_eq!(ended(clock, 150), (50, parts(40, 0, 0)));
        let mut clock = VcpuClock::default();
        clock.on_userspace_exit(110);
        assert_eq!(clock, VcpuClock::default(), "it is not known to be out");
    }

    #[test]
    fn a_halt_ends_where_it_says_and_lasted_as_long_as_it_says() {
        let mut clock = out();
        clock.on_wakeup(180, 60);
        assert_eq!(ended(clock, 190), (90, parts(0, 60, 0)));
    }

    #[test]
    fn a_halt_is_not_longer_than_the_exit() {
        let mut clock = out();
        clock.on_wakeup(150, u64::MAX);
        assert_eq!(ended(clock, 160), (60, parts(0, 50, 0)));
    }

    #[test]
    fn who_halts_is_back_from_user_space() {
        let mut clock = out();
        clock.on_userspace_exit(110);
        clock.on_wakeup(180, 40);
        assert_eq!(ended(clock, 190), (90, parts(30, 40, 0)));
    }

    #[test]
    fn who_is_ready_and_does_not_run_is_preempted() {
        let mut clock = out();
        clock.on_switch_out(110);
        clock.on_switch_in(140);
        assert_eq!(ended(clock, 150), (50, parts(0, 0, 30)));
        // In the guest it is no part of an exit.
        let mut clock = out();
        clock.on_entry(110);
        clock.on_switch_out(120);
        assert_eq!(clock.preempted_since_ns, 0);
    }

    #[test]
    fn preempted_in_user_space_is_not_user_spaces_time() {
        let mut clock = out();
        clock.on_userspace_exit(110);
        clock.on_switch_out(120);
        clock.on_switch_in(150);
        assert_eq!(ended(clock, 160), (60, parts(20, 0, 30)));
    }

    #[test]
    fn preempted_while_polling_is_not_halted_time() {
        let mut clock = out();
        clock.on_switch_out(130);
        clock.on_switch_in(150);
        clock.on_wakeup(180, 60);
        assert_eq!(ended(clock, 190), (90, parts(0, 40, 20)));
        // Before the halt it is no part of it.
        let mut clock = out();
        clock.on_switch_out(105);
        clock.on_switch_in(115);
        clock.on_wakeup(180, 60);
        assert_eq!(ended(clock, 190), (90, parts(0, 60, 10)));
    }

    #[test]
    fn preempted_while_polling_is_not_taken_from_user_spaces_time() {
        let mut clock = out();
        clock.on_userspace_exit(110);
        clock.on_switch_out(130);
        clock.on_switch_in(150);
        clock.on_wakeup(180, 60);
        assert_eq!(ended(clock, 190), (90, parts(10, 40, 20)));
    }

    #[test]
    fn who_does_something_runs() {
        for event in [
            |clock: &mut VcpuClock| clock.on_userspace_exit(120),
            |clock: &mut VcpuClock| clock.on_wakeup(120, 0),
            |clock: &mut VcpuClock| assert!(clock.on_detail_event(120, key(2)).is_ok()),
        ] {
            let mut clock = out();
            clock.on_switch_out(110);
            event(&mut clock);
            clock.on_switch_in(140);
            let (_, parts) = ended(clock, 150);
            assert_eq!(parts.preempted_ns, 0, "when it was put back is not known");
        }
    }

    #[test]
    fn parts_never_exceed_the_whole() {
        let mut clock = out();
        clock.on_userspace_exit(110);
        clock.on_wakeup(150, 30);
        clock.on_wakeup(160, 60);
        clock.on_wakeup(170, 70);
        let (total_ns, parts) = ended(clock, 170);
        assert_eq!(total_ns, 70);
        assert!(
            parts.vmm_ns + parts.halted_ns + parts.preempted_ns <= 70,
            "{parts:?}"
        );
    }

    #[test]
    fn the_first_event_names_the_exit_and_a_further_one_begins_a_span() {
        let mut clock = VcpuClock::default();
        assert_eq!(clock.on_exit(100, None), None);
        assert_eq!(clock.open_key(), None);
        assert_eq!(clock.on_detail_event(110, key(7)), Ok(None));
        clock.on_userspace_exit(120);
        let first = clock
            .on_detail_event(150, key(8))
            .expect("it is out")
            .expect("the first");
        assert_eq!(
            (first.key, first.total_ns, first.breakdown),
            (key(7), 50, parts(30, 0, 0))
        );
        let second = clock.on_entry(160).expect("the second");
        assert_eq!(
            (second.key, second.total_ns, second.breakdown),
            (key(8), 10, parts(0, 0, 0))
        );
    }

    #[test]
    fn exits_without_such_an_event_are_not_counted() {
        let mut clock = VcpuClock::default();
        clock.on_exit(100, None);
        assert_eq!(clock.on_entry(110), None);
        assert_eq!(clock.on_exit(120, None), None);
        assert_eq!(clock.on_exit(130, None), None);
    }

    #[test]
    fn what_happens_in_the_guest_has_no_time() {
        let mut clock = VcpuClock::default();
        assert_eq!(clock.on_detail_event(110, key(7)), Err(key(7)));
        clock.on_wakeup(120, 5);
        clock.on_switch_out(130);
        clock.on_switch_in(140);
        assert_eq!(clock, VcpuClock::default());
    }

    #[test]
    fn what_may_have_been_missed_has_no_time() {
        let mut clock = out();
        clock.on_userspace_exit(110);
        assert_eq!(clock.reset_after_gap(), Some(key(1)));
        assert_eq!(clock.reset_after_gap(), None);
        assert_eq!(clock.on_entry(150), None);
        assert_eq!(clock.reset_after_gap(), None);
        clock.on_exit(170, Some(key(2)));
        assert_eq!(clock.guest_ns, 0, "it may have been out in between");
        assert_eq!(ended(clock, 180), (10, parts(0, 0, 0)));
    }

    #[test]
    fn a_halt_does_not_make_an_exit_slow() {
        let span = |total_ns, halted_ns| Span {
            total_ns,
            breakdown: parts(0, halted_ns, 0),
            ..Span::default()
        };
        assert_eq!(span(100, 60).busy_ns(), 40);
        assert_eq!(span(60, 100).busy_ns(), 0);
        assert!(span(100, 60).is_slow(39));
        assert!(!span(100, 60).is_slow(40));
        assert!(span(1, 0).is_slow(0));
        assert!(!span(u64::MAX >> 1, 0).is_slow(u64::MAX));
    }

    #[test]
    fn a_thread_that_is_preempted_or_yields_does_not_wait() {
        const TASK_REPORT_MAX: u64 = 0x100;
        assert!(!is_waiting(0));
        assert!(!is_waiting(TASK_REPORT_MAX));
        // Interruptible, uninterruptible, dead.
        assert!([1, 2, 0x10].into_iter().all(is_waiting));
    }

    #[test]
    fn time_that_goes_back_is_no_time() {
        let mut clock = out();
        clock.on_userspace_exit(50);
        clock.on_switch_out(60);
        clock.on_switch_in(40);
        clock.on_wakeup(30, 100);
        assert_eq!(ended(clock, 20), (0, parts(0, 0, 0)));
    }
}
