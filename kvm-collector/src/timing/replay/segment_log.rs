//! What a [`Replay`](super::Replay) finds, one by one: for who wants to see each exit, and not their sums.

use std::vec;

use kvm_ebpf_common::{Key, Parts, Span, VcpuClock};

use super::{Replay, RunningVcpus, threads::Thread, vcpu_id};
use crate::model::{Exit, ExitEnd, Part, Segment, VcpuState};

/// Stretches that are over and have not been asked for. Of one thread they come in the order of their ends;
/// parts before the exit they are of.
#[derive(Debug, Default)]
pub(super) struct SegmentLog {
    segments: Option<Vec<Segment>>,
    /// Only whole exits, not their parts, nor time in the guest.
    exits_only: bool,
}

impl Replay {
    /// From now on, keeps what each vCPU's thread did, one by one, for [`Replay::segments`].
    pub fn log_segments(&mut self) {
        self.segment_log.begin();
    }

    /// From now on, logs each exit, without its parts, for [`Replay::segments`].
    pub fn log_exits(&mut self) {
        self.segment_log.begin();
        self.segment_log.exits_only = true;
    }

    /// Where vCPUs' threads were until now, if that is kept: what was not asked for yet, each thread's in the
    /// order of time.
    pub fn segments(&mut self) -> vec::Drain<'_, Segment> {
        self.segment_log.drain()
    }

    /// The recording ends here: what is not over, is known as far as this.
    pub fn end_segments(&mut self) {
        self.interrupt_after_losses();
        let living: Vec<_> = self.threads.iter_mut().map(|it| it.state).collect();
        let running = RunningVcpus::of(living.iter());
        for thread in self.threads.iter_mut() {
            if running.has_moved(&thread.state, &self.exited) {
                self.segment_log.unseen(thread);
            } else {
                self.segment_log.last(thread, self.now_ns);
            }
        }
    }
}

impl SegmentLog {
    pub(super) fn begin(&mut self) {
        self.segments.get_or_insert_default();
    }

    #[inline]
    pub(super) fn is_kept(&self) -> bool {
        self.segments.is_some()
    }

    pub(super) fn drain(&mut self) -> vec::Drain<'_, Segment> {
        self.segments.get_or_insert_default().drain(..)
    }

    /// A segment that is no exit, if those are logged.
    fn add_other(&mut self, thread: &Thread, from_ns: u64, to_ns: u64, state: VcpuState) {
        if !self.exits_only {
            self.add(thread, from_ns, to_ns, state);
        }
    }

    fn add(&mut self, thread: &Thread, from_ns: u64, to_ns: u64, state: VcpuState) {
        if let Some(segments) = &mut self.segments {
            segments.push(Segment {
                vcpu_id: vcpu_id(&thread.state),
                cpu: thread.cpu,
                from_ns,
                to_ns: to_ns.max(from_ns),
                state,
            });
        }
    }

    fn add_exit(
        &mut self,
        thread: &Thread,
        times: (u64, u64),
        key: Key,
        parts: Parts,
        end: ExitEnd,
    ) {
        let exit = Exit {
            key,
            guest_rip: thread.guest_rip,
            parts,
            end,
        };
        self.add(thread, times.0, times.1, VcpuState::Exit(exit));
    }

    /// The clock of a thread is about to be told of `kvm_exit`.
    pub(super) fn leaves_guest(&mut self, thread: &mut Thread, now_ns: u64, rip: u64) {
        if !self.is_kept() {
            return;
        }
        let clock = &thread.state.clock;
        if clock.guest_since_ns != 0 {
            self.add_other(thread, clock.guest_since_ns, now_ns, VcpuState::Guest);
        }
        self.unseen(thread);
        thread.guest_rip = rip;
    }

    /// What is open is about to be given up.
    pub(super) fn unseen(&mut self, thread: &Thread) {
        self.not_over(thread, thread.seen_ns, ExitEnd::Unseen);
    }

    /// The thread has ended. If it was in the guest, it left that at a time that nobody saw.
    pub(super) fn thread_end(&mut self, thread: &Thread) {
        self.not_over(thread, thread.seen_ns, ExitEnd::Open);
    }

    /// The stream ends here.
    pub(super) fn last(&mut self, thread: &Thread, now_ns: u64) {
        let clock = &thread.state.clock;
        if clock.guest_since_ns != 0 {
            self.add_other(thread, clock.guest_since_ns, now_ns, VcpuState::Guest);
        }
        self.not_over(thread, now_ns, ExitEnd::Open);
    }

    fn not_over(&mut self, thread: &Thread, to_ns: u64, end: ExitEnd) {
        if let Some(key) = thread.state.clock.open_key() {
            let times = (thread.state.clock.span_ns, to_ns);
            self.add_exit(thread, times, key, Parts::default(), end);
        }
    }

    /// The clock of a thread that is about to be told of an event; to be handed to what follows from that.
    #[inline]
    pub(super) fn before(&self, thread: &Thread) -> Option<VcpuClock> {
        // Copied only where parts are logged.
        (self.is_kept() && !self.exits_only).then_some(thread.state.clock)
    }

    /// A span is over that began when the clock was so.
    #[inline]
    pub(super) fn over(
        &mut self,
        thread: &Thread,
        before: Option<VcpuClock>,
        span: &Span,
        now_ns: u64,
    ) {
        if !self.is_kept() {
            return;
        }
        if let Some(before) = before {
            self.parts(thread, &before, &span.parts, now_ns, now_ns);
        }
        let times = (now_ns - span.total_ns, now_ns);
        self.add_exit(thread, times, span.key, span.parts, ExitEnd::Entry);
    }

    /// The clock of a thread, which was so before, has been told of an event within an exit.
    #[inline]
    pub(super) fn within(&mut self, thread: &mut Thread, before: Option<VcpuClock>, now_ns: u64) {
        let Some(before) = before else { return };
        let clock = &thread.state.clock;
        let halted_ns = clock.parts.halted_ns - before.parts.halted_ns;
        // A preemption while it was halted is not in its time, but in between.
        let mut halted_from_ns = now_ns - halted_ns;
        let out_until_ns = clock.last_out_ns.saturating_add(clock.last_out_for_ns);
        if halted_ns > 0 && out_until_ns > halted_from_ns {
            halted_from_ns = halted_from_ns.saturating_sub(clock.last_out_for_ns);
        }
        let parts = clock.parts;
        self.parts(thread, &before, &parts, halted_from_ns, now_ns);
        if before.vmm_since_ns == 0 && thread.state.clock.vmm_since_ns != 0 {
            thread.vmm_began_ns = now_ns;
        }
    }

    /// What has been added to the parts; `left_ns` is when it was back from user space, if it was there.
    fn parts(
        &mut self,
        thread: &Thread,
        before: &VcpuClock,
        parts: &Parts,
        left_ns: u64,
        now_ns: u64,
    ) {
        let was = &before.parts;
        if parts.vmm_ns > was.vmm_ns {
            // Not `vmm_since_ns`, which is put off by preemptions.
            self.add_other(
                thread,
                thread.vmm_began_ns,
                left_ns,
                VcpuState::Part(Part::Vmm),
            );
        }
        if parts.halted_ns > was.halted_ns {
            self.add_other(thread, left_ns, now_ns, VcpuState::Part(Part::Halted));
        }
        if parts.preempted_ns > was.preempted_ns {
            let from_ns = now_ns - (parts.preempted_ns - was.preempted_ns);
            self.add_other(thread, from_ns, now_ns, VcpuState::Part(Part::Preempted));
        }
    }
}
