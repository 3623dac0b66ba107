//! Timed VM exits from a stream of events.
//!
//! A [`Replay`] does in user space what the eBPF programs do while events happen. It applies the
//! same rules ([`VcpuClock`](kvm_ebpf_common::VcpuClock),
//! [`ExitStats::add`](kvm_ebpf_common::ExitStats::add),
//! [`CauseTable::add`](kvm_ebpf_common::CauseTable::add)) and produces the same rows
//! ([`ThreadExits`]).
//!
//! If events are lost, an entry and the following exit may be among them, and two exits look like a
//! single long one. The stream therefore tells where events are missing ([`StreamItem::Lost`]). An
//! exit that spans such a point is counted as `unmatched` and has no duration; guest time that
//! spans it is not counted.

mod capacity;
mod event_steps;
mod exit_recorder;
mod last_entered;
mod loss_markers;
mod options;
mod segment_log;
mod step_executor;
mod threads;

use std::vec;

use kvm_ebpf_common::{SlowExit, is_valid_time};

use super::TimingError;
use crate::model::{Event, ExitReading, Loss, Segment, StreamItem, ThreadExits};
use event_steps::EventSteps;
pub use options::ReplayOptions;
use step_executor::StepExecutor;
use threads::Task;

/// Times the exits in a stream of events, which must be in time order.
#[derive(Debug)]
pub struct Replay {
    options: ReplayOptions,
    executor: StepExecutor,
    damaged: u64,
    /// Losses before the requested range of the stream.
    loss_before: Loss,
    /// The time of the first event, or the start of the requested range.
    start_ns: Option<u64>,
    now_ns: u64,
}

impl Replay {
    /// Creates a replay. Its time starts with the first event.
    ///
    /// # Errors
    /// [`TimingError`] if the formats lack an event or a field that is needed to time exits.
    pub fn new(options: ReplayOptions) -> Result<Self, TimingError> {
        let steps = EventSteps::new(&options.timing, &options.formats)?;
        let max_rows = if options.collects_totals {
            options.max_rows
        } else {
            0
        };
        Ok(Self {
            executor: StepExecutor::new(steps, options.max_threads, max_rows),
            options,
            damaged: 0,
            loss_before: Loss::default(),
            start_ns: None,
            now_ns: 0,
        })
    }

    /// Returns how exits are timed.
    #[must_use]
    pub fn options(&self) -> &ReplayOptions {
        &self.options
    }

    /// Adds the next item of the stream. The events of each thread must be in time order.
    #[inline(always)]
    pub fn add_item(&mut self, item: &StreamItem<'_>) {
        match item {
            StreamItem::Event(event) => self.add_event(event),
            item => self.add_non_event(item),
        }
    }

    #[cold]
    fn add_non_event(&mut self, item: &StreamItem<'_>) {
        match *item {
            StreamItem::Event(_) => {}
            StreamItem::Damaged { time_ns, thread } => {
                self.start_or_advance(time_ns);
                let task = Task::new(thread.tgid, thread.tid);
                self.executor.interrupt_thread(task);
            }
            StreamItem::Lost { slot, cpu, .. } => self.executor.add_loss(slot, cpu),
            StreamItem::ThreadEnd { tid } => self.executor.remove_tid(tid),
            StreamItem::RangeStart { start_ns } => self.start_range(start_ns),
            StreamItem::IntervalEnd { end_ns } => self.advance(end_ns),
        }
    }

    /// Advances the time of the stream, even if no event happens until then.
    pub fn advance(&mut self, now_ns: u64) {
        if is_valid_time(now_ns) {
            self.now_ns = self.now_ns.max(now_ns);
        }
    }

    /// Starts the requested range of the stream: losses, causes and extremes are those since then.
    /// Counts and times go on; [`ExitReading`]s are compared with one at this time.
    fn start_range(&mut self, start_ns: u64) {
        self.advance(start_ns);
        self.start_ns = Some(start_ns);
        let (_, migrated) = self.executor.read_exits(self.now_ns, &mut |_| {});
        self.executor.reset_extremes_and_causes();
        self.executor.drain_slow_exits();
        self.loss_before = self.loss();
        self.loss_before.moved += migrated;
    }

    /// Advances the time, which starts with the first event.
    #[inline]
    fn start_or_advance(&mut self, time_ns: u64) {
        self.advance(time_ns);
        if self.start_ns.is_none() && is_valid_time(time_ns) {
            self.start_ns = Some(time_ns);
        }
    }

    fn add_event(&mut self, event: &Event<'_>) {
        self.start_or_advance(event.time_ns);
        let Some((steps, is_complete)) = self.executor.steps_of(event) else {
            return;
        };
        let task = Task::new(event.tgid, event.tid);
        if !is_complete || !is_valid_time(event.time_ns) {
            // The event is as good as lost, except that its thread is known.
            self.damaged += 1;
            self.executor.interrupt_thread(task);
            return;
        }
        for step in steps.iter() {
            if self.options.is_sampled {
                self.executor.count_sampled(step, task, event);
            } else {
                self.executor.execute(step, task, event);
            }
        }
    }

    /// Removes and returns the exits above [`TimingRequest::slow_threshold`] that have ended since
    /// the last call.
    ///
    /// [`TimingRequest::slow_threshold`]: super::TimingRequest::slow_threshold
    pub fn drain_slow_exits(&mut self) -> vec::Drain<'_, SlowExit> {
        self.executor.drain_slow_exits()
    }

    /// Passes all timed exits since the start to `each`: one row per thread and key, those of
    /// exited threads included.
    pub fn read_exits(&mut self, each: &mut dyn FnMut(&ThreadExits<'_>)) -> ExitReading {
        let (vcpus, migrated) = self.executor.read_exits(self.now_ns, each);
        let mut loss = self.loss();
        loss.moved += migrated;
        let loss = loss.since(&self.loss_before);
        let start_ns = self.start_ns.unwrap_or(self.now_ns);
        ExitReading {
            time_ns: self.now_ns.saturating_sub(start_ns),
            vcpus,
            loss,
        }
    }

    /// Returns the losses that the replay itself noticed since its start. Losses that the stream
    /// reports are counted where the stream is read.
    fn loss(&self) -> Loss {
        Loss {
            damaged: self.damaged,
            ..self.executor.loss()
        }
    }

    /// Starts to log the segments of each vCPU thread, for [`Replay::drain_segments`].
    pub fn log_segments(&mut self) {
        self.executor.segment_log().enable();
    }

    /// Starts to log whole exits only, without their parts and without guest time, for
    /// [`Replay::drain_segments`].
    pub fn log_exits(&mut self) {
        self.executor.segment_log().enable_exits_only();
    }

    /// Removes and returns the logged segments. Those of one thread are ordered by their end, and
    /// the parts of an exit come before the exit.
    pub fn drain_segments(&mut self) -> vec::Drain<'_, Segment> {
        self.executor.segment_log().drain()
    }

    /// Ends the segments that are still in progress at the end of the stream.
    pub fn finish_segments(&mut self) {
        self.executor.finish_segments(self.now_ns);
    }
}
