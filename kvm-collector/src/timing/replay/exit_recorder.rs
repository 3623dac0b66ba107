//! Stores the exits of vCPU threads: rows, slow exits, segments, and the exits of exited threads.

use std::vec;

use kvm_ebpf_common::{
    CauseTable, Key, RecordHeader, SLOW_EXIT_SLOT, SlowExit, Span, TimingCounters, TimingSettings,
};

use super::{capacity::Capacity, segment_log::SegmentLog, threads::ReplayThread};
use crate::{
    model::{Causes, ExitTotals, Loss, ThreadExits},
    timing::{ExitedThreads, recent_extremes, vcpu_id_of},
};

/// Stores the exits of vCPU threads.
#[derive(Debug)]
pub(super) struct ExitRecorder {
    settings: TimingSettings,
    /// Free rows.
    rows: Capacity,
    pub(super) counters: TimingCounters,
    slow_exits: Vec<SlowExit>,
    pub(super) segment_log: SegmentLog,
    pub(super) exited: ExitedThreads,
    /// The current interval between two readings; see
    /// [`ExitStats::extremes`](kvm_ebpf_common::ExitStats::extremes).
    epoch: u64,
}

impl ExitRecorder {
    /// Creates a recorder with capacity for `max_rows` rows.
    pub(super) fn new(settings: TimingSettings, max_rows: usize) -> Self {
        Self {
            settings,
            rows: Capacity::new(max_rows),
            counters: TimingCounters::default(),
            slow_exits: Vec::new(),
            segment_log: SegmentLog::default(),
            exited: ExitedThreads::default(),
            epoch: 1,
        }
    }

    /// Ends the exit and the guest time in progress of a thread, because events of the thread may
    /// be missing. The exit is counted as unmatched and has no duration.
    #[cold]
    pub(super) fn interrupt(&mut self, thread: &mut ReplayThread) {
        self.segment_log.log_unknown_end(thread);
        if let Some(key) = thread.state.clock.reset_after_gap() {
            self.count_unmatched(thread, &key);
        }
    }

    /// Ends the exit in progress of a thread, because its vCPU has run in another thread since. The
    /// exit is counted as moved and has no duration.
    pub(super) fn discard_moved_exit(&mut self, thread: &mut ReplayThread) {
        self.segment_log.log_unknown_end(thread);
        if let Some(key) = thread.state.clock.discard_exit() {
            self.counters.moved += 1;
            self.count_untimed(thread, &key);
        }
    }

    /// Counts an exit without a matching entry.
    pub(super) fn count_unmatched(&mut self, thread: &mut ReplayThread, key: &Key) {
        self.counters.unmatched += 1;
        self.count_untimed(thread, key);
    }

    /// Counts an exit or event without a duration.
    pub(super) fn count_untimed(&mut self, thread: &mut ReplayThread, key: &Key) {
        match thread.row_mut(key, &mut self.rows) {
            Some(row) => row.stats.add_untimed(),
            None => self.rows.count_full_table(&mut self.counters),
        }
    }

    /// Counts a sampled event that stands for `count` events.
    pub(super) fn count_sampled(&mut self, thread: &mut ReplayThread, key: &Key, count: u64) {
        match thread.row_mut(key, &mut self.rows) {
            Some(row) => {
                row.stats.count = row.stats.count.saturating_add(count);
                row.stats.untimed = row.stats.untimed.saturating_add(count);
            }
            None => self.rows.count_full_table(&mut self.counters),
        }
    }

    /// Stores a completed exit in its row, and as a slow exit if it is one.
    pub(super) fn record(&mut self, thread: &mut ReplayThread, span: &Span, now_ns: u64, cpu: u32) {
        let cause = thread.state.cause;
        match thread.row_mut(&span.key, &mut self.rows) {
            Some(row) => {
                row.stats.add(span, self.epoch);
                if self.settings.stores_causes != 0 && cause.kind != 0 {
                    let causes = row
                        .causes
                        .get_or_insert_with(|| Box::new(CauseTable::default()));
                    causes.add(cause, span.total_ns);
                }
            }
            None => self.rows.count_full_table(&mut self.counters),
        }
        if span.is_slow(self.settings.slow_ns) {
            self.slow_exits.push(slow_exit(thread, span, now_ns, cpu));
        }
    }

    /// Moves the rows and times of a thread that has ended to the exited threads.
    pub(super) fn retire(&mut self, mut thread: Box<ReplayThread>) {
        self.segment_log.log_thread_end(&thread);
        self.rows.release(thread.rows.len());
        for row in &mut thread.rows {
            let recent = recent_extremes(&row.stats, self.epoch);
            row.extremes.merge(recent);
            let totals = ExitTotals::from_stats(&row.stats, row.extremes);
            let causes = row.causes.as_deref().map(Causes::from);
            self.exited
                .add_row(&thread.state, row.key, &totals, recent, causes);
        }
        self.exited.add_thread(&thread.state);
        if let Some(key) = thread.state.clock.open_key() {
            self.exited.add_open_exit(&thread.state, key);
        }
    }

    /// Starts the next epoch. Returns the one that ends.
    pub(super) fn next_epoch(&mut self) -> u64 {
        let ended = self.epoch;
        self.epoch += 1;
        ended
    }

    /// Removes and returns the slow exits.
    pub(super) fn drain_slow_exits(&mut self) -> vec::Drain<'_, SlowExit> {
        self.slow_exits.drain(..)
    }

    /// Returns the exits that were counted as lost or have no duration.
    pub(super) fn loss(&self) -> Loss {
        let (counters, exited) = (&self.counters, &self.exited);
        Loss {
            unmatched: counters.unmatched,
            moved: counters.moved + exited.moved_exits(),
            map_full: counters.rows_full + counters.threads_full + exited.dropped_exits(),
            ..Loss::default()
        }
    }
}

/// Passes the rows of a running thread to `each`. `epoch` is the one that ends with the reading.
pub(super) fn read_rows(
    thread: &mut ReplayThread,
    epoch: u64,
    each: &mut dyn FnMut(&ThreadExits<'_>),
) {
    let vcpu_id = vcpu_id_of(&thread.state);
    for row in &mut thread.rows {
        let recent = recent_extremes(&row.stats, epoch);
        row.extremes.merge(recent);
        each(&ThreadExits {
            vcpu_id,
            key: row.key,
            totals: &ExitTotals::from_stats(&row.stats, row.extremes),
            recent,
            causes: row.causes.as_deref().map(Causes::from).as_ref(),
        });
    }
}

/// Builds the record of a slow exit, as the eBPF programs do.
fn slow_exit(thread: &ReplayThread, span: &Span, now_ns: u64, cpu: u32) -> SlowExit {
    SlowExit {
        header: RecordHeader {
            time_ns: now_ns,
            tgid: thread.state.tgid(),
            cpu: u16::try_from(cpu).unwrap_or(u16::MAX),
            length: u16::try_from(size_of::<SlowExit>()).unwrap_or(u16::MAX),
            event_id: 0,
            slot: SLOW_EXIT_SLOT,
            tid: thread.state.tid(),
        },
        span: *span,
        cause: thread.state.cause,
        guest_rip: thread.state.guest_rip,
        vcpu: thread.state.vcpu,
        padding: 0,
    }
}
