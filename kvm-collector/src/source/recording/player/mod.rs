//! Plays a recording: emits its items in time order, with the names and losses known at that point.

mod emission;

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    attr_selection::AttrSelection,
    clock::RecordingClock,
    names::RecordedNames,
    playback::{PlaybackContext, PlaybackOptions, RecordedProcess, RecordingSummary},
    recording_files::ReadStep,
    scan::ScannedChunk,
};
use crate::{
    model::{Loss, StreamItem, VmName},
    recording::{Metadata, ReadError, decode},
    source::{loss_windows::LossWindows, reorder_buffer::ReorderBuffer},
    timing::Attribution,
};

/// Maximum number of records that are held back until a round finishes, at 32 bytes each. A round
/// of `perf record` has as many records as fit into its buffers.
const MAX_HELD_RECORDS: usize = 1 << 21;

/// Maximum number of bytes of the chunks that contain these records.
const MAX_HELD_BYTES: usize = 512 << 20;

/// Why the playback stops early.
enum PlaybackStop<E> {
    /// The receiver of the items returned an error.
    Error(E),
    /// The requested range has ended.
    LimitReached,
}

/// The state of a playback.
pub(super) struct Player<'a> {
    metadata: &'a Metadata,
    attrs: &'a [AttrSelection],
    /// Whether `kvm-collector record` made the recording. Its records of lost events contain the id
    /// of the lost event.
    is_recorded_by_us: bool,
    attribution: Attribution,
    identifies_vcpus: bool,
    losses: LossWindows,
    /// Whether to collect the processes that had events of KVM or selected ones.
    collects_processes: bool,
    processes: BTreeSet<u32>,
    last_process: Option<u32>,
    clock: RecordingClock,
    names: RecordedNames,
    loss: Loss,
    /// Number of unattributed events before the requested range.
    unattributed_before: u64,
    /// Why the recording is incomplete.
    defect: Option<String>,
    /// Number of events in the requested range so far.
    events: u64,
}

impl<'a> Player<'a> {
    /// Creates a player. `attrs` has the selection for each attr.
    pub(super) fn new(
        metadata: &'a Metadata,
        attrs: &'a [AttrSelection],
        attribution: Attribution,
        names: RecordedNames,
        (identifies_vcpus, identifies_vms): (bool, bool),
        options: &PlaybackOptions,
    ) -> Self {
        Self {
            metadata,
            attrs,
            is_recorded_by_us: metadata.is_recorded_by_us(),
            attribution,
            identifies_vcpus,
            losses: LossWindows::default(),
            collects_processes: identifies_vms,
            processes: BTreeSet::new(),
            last_process: None,
            clock: RecordingClock::new(options.limits),
            names,
            loss: Loss::default(),
            unattributed_before: 0,
            defect: None,
            events: 0,
        }
    }

    /// Reads chunks with `next` and passes items to `each`, until the recording ends or the
    /// requested range has ended.
    ///
    /// # Errors
    /// The first error of `next` or `each`.
    pub(super) fn play<E: From<ReadError>>(
        mut self,
        next: &mut dyn FnMut() -> Result<ReadStep, ReadError>,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<RecordingSummary, E> {
        let mut buffer = ReorderBuffer::default();
        let mut held_bytes = 0;
        let mut is_done = false;
        while !is_done {
            let scanned = match next()? {
                ReadStep::Chunk(scanned) => scanned,
                ReadStep::End(defect) => {
                    self.loss.damaged += u64::from(defect.is_some());
                    self.defect = defect;
                    break;
                }
            };
            self.handle_untimed_records(&scanned);
            if let Some(period) = scanned.period {
                self.clock.add_recorded(period);
            }
            let until_ns = scanned.until_ns;
            if !scanned.queued.is_empty() {
                held_bytes += scanned.chunk.len();
                buffer.add(scanned.chunk, scanned.queued);
            }
            let mut max_held = MAX_HELD_RECORDS;
            if held_bytes > MAX_HELD_BYTES {
                max_held = buffer.held_items() / 2;
            }
            if until_ns.is_some() || buffer.held_items() > max_held {
                let emitted =
                    buffer.emit_until(until_ns.unwrap_or(0), max_held, |chunk, time_ns, item| {
                        self.emit_record(chunk, time_ns, item, each)
                    });
                held_bytes = buffer.block_bytes(Bytes::len);
                is_done = is_limit_reached(emitted)?;
            }
        }
        if !is_done {
            let emitted = buffer.emit_until(u64::MAX, 0, |chunk, time_ns, item| {
                self.emit_record(chunk, time_ns, item, each)
            });
            is_limit_reached(emitted)?;
        }
        self.loss.late = buffer.late();
        self.update_unattributed();
        self.finish(each)
    }

    fn finish<E>(
        mut self,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<RecordingSummary, E> {
        // At the end of the requested range, only the losses up to there matter, as at the end of an
        // interval.
        if !self.losses.is_empty() && !self.clock.is_finished() {
            match self.emit_losses(u64::MAX, each) {
                Ok(()) | Err(PlaybackStop::LimitReached) => {}
                Err(PlaybackStop::Error(error)) => return Err(error),
            }
        }
        let step = self.clock.advance_to_end();
        match self.emit_clock_step(step, each) {
            Ok(()) | Err(PlaybackStop::LimitReached) => {}
            Err(PlaybackStop::Error(error)) => return Err(error),
        }
        if let Some(end_ns) = self.clock.finish() {
            match self.emit(&StreamItem::IntervalEnd { end_ns }, each) {
                Ok(()) | Err(PlaybackStop::LimitReached) => {}
                Err(PlaybackStop::Error(error)) => return Err(error),
            }
        }
        let names = self.names;
        Ok(RecordingSummary {
            period_ns: self.clock.period_ns(),
            outside: self.clock.outside(),
            ended_early: self.clock.is_finished(),
            events: self.events,
            loss: self.loss,
            defect: self.defect,
            processes: self
                .processes
                .iter()
                .map(|&pid| RecordedProcess {
                    pid,
                    vm: names.known_vm_name(pid).unwrap_or_else(VmName::unknown),
                    is_vm: names.is_vm(pid),
                })
                .collect(),
            names,
        })
    }

    fn update_unattributed(&mut self) {
        let unattributed = self.attribution.unattributed();
        self.loss.unattributed = unattributed.saturating_sub(self.unattributed_before);
    }

    /// Handles the records without a time, which are not held back.
    fn handle_untimed_records(&mut self, scanned: &ScannedChunk) {
        let untimed = scanned.untimed.iter();
        for record in untimed.filter_map(|at| decode::record_at(&scanned.chunk, *at)) {
            self.names.add_record(record);
        }
    }
}

/// Returns whether the playback stopped because the requested range has ended.
fn is_limit_reached<E>(result: Result<(), PlaybackStop<E>>) -> Result<bool, E> {
    match result {
        Ok(()) => Ok(false),
        Err(PlaybackStop::LimitReached) => Ok(true),
        Err(PlaybackStop::Error(error)) => Err(error),
    }
}
