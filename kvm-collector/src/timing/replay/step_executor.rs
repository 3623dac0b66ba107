//! Executes the steps of events: updates the clocks of vCPU threads and records the exits that end.

use std::vec;

use kvm_ebpf_common::{Key, SlowExit, VCPU_UNKNOWN, VcpuClock, is_waiting};

use super::{
    event_steps::{EventSteps, Steps, read, read_u32},
    exit_recorder::{ExitRecorder, read_rows},
    last_entered::LastEntered,
    loss_markers::LossMarkers,
    segment_log::SegmentLog,
    threads::{ReplayThread, Task, Threads},
};
use crate::{
    model::{Event, Loss, MinMax, ThreadExits, VcpuTimes},
    timing::{RunningVcpus, Step, open_exits::has_migrated, read_open_exit},
};

/// Executes the steps of events on the state of vCPU threads.
#[derive(Debug)]
pub(super) struct StepExecutor {
    steps: EventSteps,
    threads: Threads,
    loss_markers: LossMarkers,
    last_entered: LastEntered,
    recorder: ExitRecorder,
}

impl StepExecutor {
    /// Creates an executor with capacity for this many threads and rows.
    pub(super) fn new(steps: EventSteps, max_threads: usize, max_rows: usize) -> Self {
        Self {
            threads: Threads::new(max_threads),
            loss_markers: LossMarkers::default(),
            last_entered: LastEntered::new(max_threads),
            recorder: ExitRecorder::new(steps.settings, max_rows),
            steps,
        }
    }

    /// Returns the steps of an event, and whether its record is long enough for them. `None` if the
    /// event has no steps.
    #[inline]
    pub(super) fn steps_of(&self, event: &Event<'_>) -> Option<(Steps, bool)> {
        self.steps.steps(event.slot, event.raw)
    }

    /// Executes one step of an event that happened in `task`.
    #[inline]
    pub(super) fn execute(&mut self, step: Step, task: Task, event: &Event<'_>) {
        match step {
            Step::Switch => self.on_switch(task, event),
            Step::ThreadEnd => {
                if let Some(thread) = self.threads.remove(task) {
                    self.retire(thread);
                }
            }
            Step::LearnVcpu => {
                let vcpu = read_u32(event.raw, self.steps.entry_vcpu);
                self.find_or_count(task, vcpu, event);
            }
            Step::Exit => self.on_exit(task, event),
            Step::Entry => self.on_entry(task, event),
            Step::UserspaceExit => self.on_clock_event(task, event, VcpuClock::on_userspace_exit),
            Step::Wakeup => {
                let halted_ns = read(event.raw, self.steps.wakeup_ns);
                self.on_clock_event(task, event, |clock, now_ns| {
                    clock.on_wakeup(now_ns, halted_ns)
                });
            }
            Step::Detail(number) => self.on_detail(usize::from(number), task, event),
        }
    }

    /// Counts an event of a sample. It stands for several events and has no duration.
    pub(super) fn count_sampled(&mut self, step: Step, task: Task, event: &Event<'_>) {
        let (key, vcpu) = match step {
            Step::Exit if self.steps.settings.by_reason != 0 => {
                let vcpu = read_u32(event.raw, self.steps.exit.vcpu);
                (self.steps.exit_key(event.raw), vcpu)
            }
            Step::Detail(number) => {
                let Some(detail) = self.steps.details.get(usize::from(number)) else {
                    return;
                };
                let key = detail.key(event.raw);
                if detail.settings.kind != 0 || detail.skips(&key) {
                    return;
                }
                (key, VCPU_UNKNOWN)
            }
            _ => return,
        };
        if let Some(index) = self.find_or_count(task, vcpu, event)
            && let Some(thread) = self.threads.get_mut(index)
        {
            let count = event.represented_events();
            self.recorder.count_sampled(thread, &key, count);
        }
    }

    /// Adds a loss marker for lost events. `None` stands for an unknown slot or an unknown CPU.
    pub(super) fn add_loss(&mut self, slot: Option<usize>, cpu: Option<u32>) {
        // An event without steps does not affect any thread.
        if slot.is_none_or(|slot| self.steps.has_steps(slot)) {
            self.loss_markers.add(cpu);
        }
    }

    /// Removes the thread with this number, because it has ended.
    pub(super) fn remove_tid(&mut self, tid: u32) {
        if let Some(thread) = self.threads.remove_tid(tid) {
            self.retire(thread);
        }
    }

    /// Interrupts a thread that has lost an event.
    pub(super) fn interrupt_thread(&mut self, task: Task) {
        let index = self.threads.find(task);
        if let Some(thread) = index.and_then(|index| self.threads.get_mut(index)) {
            self.recorder.interrupt(thread);
        }
    }

    /// Interrupts each thread that may have lost events since its last event.
    fn interrupt_after_losses(&mut self) {
        for thread in self.threads.iter_mut() {
            if self
                .loss_markers
                .has_lost_since(thread.markers_seen, thread.cpu)
            {
                self.recorder.interrupt(thread);
                thread.markers_seen = self.loss_markers.count();
            }
        }
    }

    /// Passes the exits of all threads to `each`. Returns the other times of each thread, and the
    /// number of exits in progress that have no duration because their vCPU has migrated.
    pub(super) fn read_exits(
        &mut self,
        now_ns: u64,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) -> (Vec<VcpuTimes>, u64) {
        let epoch = self.recorder.next_epoch();
        let (mut vcpus, mut states) = (Vec::new(), Vec::new());
        self.interrupt_after_losses();
        for thread in self.threads.iter_mut() {
            states.push(thread.state);
            read_rows(thread, epoch, each);
        }
        let running = RunningVcpus::from_threads(states.iter());
        let exited = &mut self.recorder.exited;
        let mut migrated = 0;
        for state in &states {
            let (times, has_migrated) = read_open_exit(state, &running, exited, now_ns, each);
            vcpus.push(times);
            migrated += u64::from(has_migrated);
        }
        exited.read_rows(&running, each);
        vcpus.extend(exited.vcpu_times());
        (vcpus, migrated)
    }

    /// Resets the extremes and the causes of all rows.
    pub(super) fn reset_extremes_and_causes(&mut self) {
        for row in self.threads.iter_mut().flat_map(|it| &mut it.rows) {
            row.extremes = MinMax::NONE;
            row.causes = None;
        }
        self.recorder.exited.reset_extremes_and_causes();
    }

    /// Returns the losses of the recorder.
    pub(super) fn loss(&self) -> Loss {
        self.recorder.loss()
    }

    /// Removes and returns the slow exits.
    pub(super) fn drain_slow_exits(&mut self) -> vec::Drain<'_, SlowExit> {
        self.recorder.drain_slow_exits()
    }

    /// Returns the log of segments.
    pub(super) fn segment_log(&mut self) -> &mut SegmentLog {
        &mut self.recorder.segment_log
    }

    /// Logs the segments that are in progress at the end of the stream.
    pub(super) fn finish_segments(&mut self, now_ns: u64) {
        self.interrupt_after_losses();
        let states: Vec<_> = self.threads.iter_mut().map(|it| it.state).collect();
        let running = RunningVcpus::from_threads(states.iter());
        let ExitRecorder {
            segment_log,
            exited,
            ..
        } = &mut self.recorder;
        for thread in self.threads.iter_mut() {
            if has_migrated(&thread.state, &running, exited) {
                segment_log.log_unknown_end(thread);
            } else {
                segment_log.log_stream_end(thread, now_ns);
            }
        }
    }

    /// Finds the vCPU thread of an event. Returns its index and the time of the event.
    #[inline(always)]
    fn find(&mut self, task: Task, event: &Event<'_>) -> Option<(u32, u64)> {
        let index = self.threads.find(task)?;
        Some((index, self.update_seen(index, event)?))
    }

    /// Notes that an event happened in the thread at `index`, and interrupts the thread if it may
    /// have lost events before. Returns the time of the event: at least the time of the thread's
    /// previous event, and not 0, which stands for "no time".
    #[inline]
    fn update_seen(&mut self, index: u32, event: &Event<'_>) -> Option<u64> {
        let thread = self.threads.get_mut(index)?;
        let markers = &self.loss_markers;
        if thread.markers_seen != markers.count() {
            if markers.has_lost_since(thread.markers_seen, thread.cpu)
                || markers.has_lost_since(thread.markers_seen, event.cpu)
            {
                self.recorder.interrupt(thread);
            }
            thread.markers_seen = markers.count();
        }
        thread.seen_ns = thread.seen_ns.max(event.time_ns).max(1);
        thread.cpu = event.cpu;
        Some(thread.seen_ns)
    }

    /// Finds or adds the vCPU thread of an event, which has the index `vcpu`. If the table of threads is full, counts
    /// that.
    #[inline(always)]
    fn find_or_count(&mut self, task: Task, vcpu: u32, event: &Event<'_>) -> Option<u32> {
        let cpu = event.cpu;
        let vcpu = if vcpu == VCPU_UNKNOWN {
            event.named_vcpu
        } else {
            vcpu
        };
        let markers = self.loss_markers.count();
        let lookup = self.threads.find_or_insert(task, vcpu, cpu, markers);
        if let Some(replaced) = lookup.replaced {
            self.replace(replaced, task, lookup.index, cpu);
        }
        let Some(index) = lookup.index else {
            self.recorder.counters.threads_full += 1;
            return None;
        };
        if lookup.is_vcpu_new {
            self.on_new_vcpu(index);
        }
        Some(index)
    }

    /// Retires a thread after its entry was replaced: the thread has ended, or it runs another vCPU,
    /// for which it has a new entry.
    #[cold]
    fn replace(
        &mut self,
        mut replaced: Box<ReplayThread>,
        task: Task,
        new_index: Option<u32>,
        cpu: u32,
    ) {
        let (markers, seen) = (&self.loss_markers, replaced.markers_seen);
        let has_lost =
            markers.has_lost_since(seen, replaced.cpu) || markers.has_lost_since(seen, cpu);
        if replaced.state.task == task.0
            && !has_lost
            && let Some(thread) = new_index.and_then(|index| self.threads.get_mut(index))
        {
            // The thread has run the new vCPU since its last entry.
            let clock = &mut thread.state.clock;
            replaced.state.clock.move_guest_time_to(clock);
        }
        self.retire(replaced);
    }

    /// Handles that the vCPU of the thread at `index` has become known.
    #[cold]
    fn on_new_vcpu(&mut self, index: u32) {
        if !self.steps.vcpus_are_named {
            self.set_last_entered(index);
        } else if let Some(thread) = self.threads.get_mut(index) {
            thread.state.shares_vcpu_index = 1;
        }
    }

    /// Stores that the thread at `index` has entered its vCPU.
    #[cold]
    fn set_last_entered(&mut self, index: u32) {
        if self.steps.detects_migration {
            self.last_entered
                .set(index, &mut self.threads, &mut self.recorder);
        }
    }

    fn on_exit(&mut self, task: Task, event: &Event<'_>) {
        let (raw, fields, settings) = (event.raw, &self.steps.exit, &self.steps.settings);
        let vcpu = read_u32(raw, fields.vcpu);
        let key = (settings.by_reason != 0).then(|| self.steps.exit_key(raw));
        let cause = (settings.stores_causes != 0 || settings.slow_ns != u64::MAX).then(|| Key {
            code: read(raw, fields.rip),
            subcode: 0,
            kind: settings.rip_kind,
        });
        let Some(index) = self.find_or_count(task, vcpu, event) else {
            return;
        };
        let Some(now_ns) = self.update_seen(index, event) else {
            return;
        };
        let Some(thread) = self.threads.get_mut(index) else {
            return;
        };
        if self.recorder.segment_log.is_enabled() {
            let rip = read(raw, self.steps.exit.rip);
            self.recorder.segment_log.log_guest_end(thread, now_ns, rip);
        }
        // An exit before this one without an entry has been logged with its own cause.
        if let Some(cause) = cause {
            thread.state.guest_rip = cause.code;
            thread.state.cause = cause;
        }
        if let Some(unmatched) = thread.state.clock.on_exit(now_ns, key) {
            self.recorder.count_unmatched(thread, &unmatched);
        }
    }

    fn on_entry(&mut self, task: Task, event: &Event<'_>) {
        let Some((index, now_ns)) = self.find(task, event) else {
            return;
        };
        let Some(mut thread) = self.threads.get_mut(index) else {
            return;
        };
        if thread.state.check_vcpu_index != 0 {
            self.set_last_entered(index);
            match self.threads.get_mut(index) {
                Some(it) => thread = it,
                None => return,
            }
        }
        let segment_log = &mut self.recorder.segment_log;
        let clock_before = segment_log.copy_clock(thread);
        if let Some(span) = thread.state.clock.on_entry(now_ns) {
            segment_log.log_exit(thread, clock_before, &span, now_ns);
            self.recorder.record(thread, &span, now_ns, event.cpu);
        }
    }

    /// Handles an event that only changes the clock of its thread.
    fn on_clock_event(
        &mut self,
        task: Task,
        event: &Event<'_>,
        update: impl FnOnce(&mut VcpuClock, u64),
    ) {
        if let Some((index, now_ns)) = self.find(task, event)
            && let Some(thread) = self.threads.get_mut(index)
        {
            let segment_log = &mut self.recorder.segment_log;
            let clock_before = segment_log.copy_clock(thread);
            update(&mut thread.state.clock, now_ns);
            segment_log.log_new_parts(thread, clock_before, now_ns);
        }
    }

    fn on_detail(&mut self, number: usize, task: Task, event: &Event<'_>) {
        let Some(detail) = self.steps.details.get(number) else {
            return;
        };
        let key = detail.key(event.raw);
        let is_skipped = detail.skips(&key);
        let settings = detail.settings;
        let is_counted = settings.kind == 0;
        // A counted event is counted without a duration if the thread had no `kvm_exit` yet. The
        // eBPF programs do the same.
        let index = if is_counted {
            self.find_or_count(task, VCPU_UNKNOWN, event)
        } else {
            self.threads.find(task)
        };
        let Some(index) = index else {
            return;
        };
        let Some(now_ns) = self.update_seen(index, event) else {
            return;
        };
        let Some(thread) = self.threads.get_mut(index) else {
            return;
        };
        let mut completed = None;
        let clock_before = self.recorder.segment_log.copy_clock(thread);
        if !is_skipped {
            if !is_counted {
                thread.state.cause = key;
            } else {
                match thread.state.clock.on_detail_event(now_ns, key) {
                    Ok(span) => completed = span,
                    Err(key) => self.recorder.count_untimed(thread, &key),
                }
            }
        }
        let segment_log = &mut self.recorder.segment_log;
        if let Some(span) = &completed {
            segment_log.log_exit(thread, clock_before, span, now_ns);
        } else {
            segment_log.log_new_parts(thread, clock_before, now_ns);
        }
        if settings.is_userspace_exit != 0 {
            let clock_before = segment_log.copy_clock(thread);
            thread.state.clock.on_userspace_exit(now_ns);
            segment_log.log_new_parts(thread, clock_before, now_ns);
        }
        if let Some(span) = completed {
            self.recorder.record(thread, &span, now_ns, event.cpu);
        }
    }

    fn on_switch(&mut self, task: Task, event: &Event<'_>) {
        if let Some((index, now_ns)) = self.find(task, event)
            && !is_waiting(read(event.raw, self.steps.prev_state))
            && let Some(thread) = self.threads.get_mut(index)
        {
            thread.state.clock.on_switch_out(now_ns);
        }
        let next_tid = read_u32(event.raw, self.steps.next_tid);
        if let Some(index) = self.threads.find_tid(next_tid)
            && let Some(now_ns) = self.update_seen(index, event)
            && let Some(thread) = self.threads.get_mut(index)
        {
            let segment_log = &mut self.recorder.segment_log;
            let clock_before = segment_log.copy_clock(thread);
            thread.state.clock.on_switch_in(now_ns);
            segment_log.log_new_parts(thread, clock_before, now_ns);
        }
    }

    /// Moves a thread that has ended to the exited threads.
    fn retire(&mut self, mut thread: Box<ReplayThread>) {
        let markers = &self.loss_markers;
        if thread.markers_seen != markers.count()
            && markers.has_lost_since(thread.markers_seen, thread.cpu)
        {
            self.recorder.interrupt(&mut thread);
        }
        self.recorder.retire(thread);
    }
}
