//! Logs the segments of vCPU threads, for reports that show each exit instead of sums.

use std::vec;

use kvm_ebpf_common::{Key, Span, SpanBreakdown, VcpuClock};

use super::threads::ReplayThread;
use crate::{
    model::{Exit, ExitEnd, ExitPart, Segment, VcpuState},
    timing::vcpu_id_of,
};

/// Completed segments that have not been drained. Those of one thread are ordered by their end, and
/// the parts of an exit come before the exit.
#[derive(Debug, Default)]
pub(super) struct SegmentLog {
    /// `None` if the log is disabled.
    segments: Option<Vec<Segment>>,
    /// Whether only whole exits are logged, without their parts and without guest time.
    is_exits_only: bool,
}

impl SegmentLog {
    /// Starts to log segments.
    pub(super) fn enable(&mut self) {
        self.segments.get_or_insert_default();
    }

    /// Starts to log whole exits only.
    pub(super) fn enable_exits_only(&mut self) {
        self.enable();
        self.is_exits_only = true;
    }

    /// Returns whether segments are logged.
    #[inline]
    pub(super) fn is_enabled(&self) -> bool {
        self.segments.is_some()
    }

    /// Removes and returns the segments.
    pub(super) fn drain(&mut self) -> vec::Drain<'_, Segment> {
        self.segments.get_or_insert_default().drain(..)
    }

    /// Adds a segment that is not a whole exit, if such segments are logged.
    fn add_non_exit(&mut self, thread: &ReplayThread, from_ns: u64, to_ns: u64, state: VcpuState) {
        if !self.is_exits_only {
            self.add(thread, from_ns, to_ns, state);
        }
    }

    fn add(&mut self, thread: &ReplayThread, from_ns: u64, to_ns: u64, state: VcpuState) {
        if let Some(segments) = &mut self.segments {
            segments.push(Segment {
                vcpu_id: vcpu_id_of(&thread.state),
                cpu: thread.cpu,
                from_ns,
                to_ns: to_ns.max(from_ns),
                state,
            });
        }
    }

    fn add_exit(
        &mut self,
        thread: &ReplayThread,
        times: (u64, u64),
        key: Key,
        parts: SpanBreakdown,
        end: ExitEnd,
    ) {
        let exit = Exit {
            key,
            guest_rip: thread.guest_rip,
            cause: Some(thread.state.cause).filter(|it| it.kind != 0),
            parts,
            end,
        };
        self.add(thread, times.0, times.1, VcpuState::Exit(exit));
    }

    /// Logs the end of guest time. To be called before the clock of the thread handles `kvm_exit`.
    pub(super) fn log_guest_end(&mut self, thread: &mut ReplayThread, now_ns: u64, rip: u64) {
        if !self.is_enabled() {
            return;
        }
        let clock = &thread.state.clock;
        if clock.guest_since_ns != 0 {
            self.add_non_exit(thread, clock.guest_since_ns, now_ns, VcpuState::Guest);
        }
        self.log_unknown_end(thread);
        thread.guest_rip = rip;
    }

    /// Logs an exit in progress with an unknown end. To be called before the clock of the thread
    /// is interrupted.
    pub(super) fn log_unknown_end(&mut self, thread: &ReplayThread) {
        self.add_open_exit(thread, thread.seen_ns, ExitEnd::UnknownEnd);
    }

    /// Logs an exit in progress of a thread that has ended. Guest time in progress is not logged,
    /// because its end is unknown.
    pub(super) fn log_thread_end(&mut self, thread: &ReplayThread) {
        self.add_open_exit(thread, thread.seen_ns, ExitEnd::InProgress);
    }

    /// Logs the segments that are in progress at the end of the stream.
    pub(super) fn log_stream_end(&mut self, thread: &ReplayThread, now_ns: u64) {
        let clock = &thread.state.clock;
        if clock.guest_since_ns != 0 {
            self.add_non_exit(thread, clock.guest_since_ns, now_ns, VcpuState::Guest);
        }
        self.add_open_exit(thread, now_ns, ExitEnd::InProgress);
    }

    fn add_open_exit(&mut self, thread: &ReplayThread, to_ns: u64, end: ExitEnd) {
        if let Some(key) = thread.state.clock.open_key() {
            let times = (thread.state.clock.span_start_ns, to_ns);
            self.add_exit(thread, times, key, SpanBreakdown::default(), end);
        }
    }

    /// Copies the clock of a thread before it handles an event, to compare it afterwards. `None` if
    /// parts are not logged.
    #[inline]
    pub(super) fn copy_clock(&self, thread: &ReplayThread) -> Option<VcpuClock> {
        (self.is_enabled() && !self.is_exits_only).then_some(thread.state.clock)
    }

    /// Logs a completed exit, and the parts that ended with it.
    #[inline]
    pub(super) fn log_exit(
        &mut self,
        thread: &ReplayThread,
        clock_before: Option<VcpuClock>,
        span: &Span,
        now_ns: u64,
    ) {
        if !self.is_enabled() {
            return;
        }
        if let Some(before) = clock_before {
            self.add_parts(thread, &before, &span.breakdown, now_ns, now_ns);
        }
        let times = (now_ns - span.total_ns, now_ns);
        self.add_exit(thread, times, span.key, span.breakdown, ExitEnd::Entry);
    }

    /// Logs the parts that ended with an event within an exit.
    #[inline]
    pub(super) fn log_new_parts(
        &mut self,
        thread: &mut ReplayThread,
        clock_before: Option<VcpuClock>,
        now_ns: u64,
    ) {
        let Some(before) = clock_before else { return };
        let clock = &thread.state.clock;
        let halted_ns = clock.breakdown.halted_ns - before.breakdown.halted_ns;
        // A preemption during the halt does not count as halted time, so the halt started earlier.
        let mut halt_start_ns = now_ns - halted_ns;
        let out_until_ns = clock
            .last_preemption_start_ns
            .saturating_add(clock.last_preemption_ns);
        if halted_ns > 0 && out_until_ns > halt_start_ns {
            halt_start_ns = halt_start_ns.saturating_sub(clock.last_preemption_ns);
        }
        let parts = clock.breakdown;
        self.add_parts(thread, &before, &parts, halt_start_ns, now_ns);
        if before.vmm_since_ns == 0 && thread.state.clock.vmm_since_ns != 0 {
            thread.vmm_start_ns = now_ns;
        }
    }

    /// Logs each part that has grown since `before`. `vmm_end_ns` is when the thread returned from
    /// the VMM.
    fn add_parts(
        &mut self,
        thread: &ReplayThread,
        before: &VcpuClock,
        parts: &SpanBreakdown,
        vmm_end_ns: u64,
        now_ns: u64,
    ) {
        let previous = &before.breakdown;
        if parts.vmm_ns > previous.vmm_ns {
            // `vmm_since_ns` is not the start, because preemptions postpone it.
            self.add_non_exit(
                thread,
                thread.vmm_start_ns,
                vmm_end_ns,
                VcpuState::Part(ExitPart::Vmm),
            );
        }
        if parts.halted_ns > previous.halted_ns {
            self.add_non_exit(
                thread,
                vmm_end_ns,
                now_ns,
                VcpuState::Part(ExitPart::Halted),
            );
        }
        if parts.preempted_ns > previous.preempted_ns {
            let from_ns = now_ns - (parts.preempted_ns - previous.preempted_ns);
            self.add_non_exit(
                thread,
                from_ns,
                now_ns,
                VcpuState::Part(ExitPart::Preempted),
            );
        }
    }
}
