//! Emits the records of a recording as items, with the steps of the clock and the losses before them.

use bytes::Bytes;

use super::{PlaybackStop, Player};
use crate::{
    model::{Event, Loss, StreamItem, ThreadId, capacity::MAX_KNOWN_TASKS},
    recording::decode,
    source::recording::{
        clock::ClockStep,
        playback::PlaybackContext,
        scan::{QueuedRecord, RecordKind},
    },
};

impl Player<'_> {
    pub(super) fn emit<E>(
        &mut self,
        item: &StreamItem<'_>,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<(), PlaybackStop<E>> {
        self.emit_with_vcpu(item, None, each)
    }

    #[inline(always)]
    fn emit_with_vcpu<E>(
        &mut self,
        item: &StreamItem<'_>,
        vcpu: Option<u32>,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<(), PlaybackStop<E>> {
        let context = PlaybackContext {
            names: &self.names,
            loss: &self.loss,
            events: self.events,
            start_ns: self.clock.start_ns(),
            is_before_range: self.clock.is_before_range(),
            vcpu,
        };
        each(item, &context).map_err(PlaybackStop::Error)
    }

    /// Emits a held record. Returns whether it is an event.
    #[inline]
    pub(super) fn emit_record<E>(
        &mut self,
        chunk: &Bytes,
        time_ns: u64,
        record: QueuedRecord,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<bool, PlaybackStop<E>> {
        match record.kind() {
            RecordKind::Event(attr) => {
                self.emit_event(attr, time_ns, record, record.bytes(chunk), each)?;
                Ok(true)
            }
            kind => self.emit_other_record(kind, time_ns, record, record.bytes(chunk), each),
        }
    }

    /// Emits an event, if it is selected.
    #[inline(always)]
    fn emit_event<E>(
        &mut self,
        attr: usize,
        time_ns: u64,
        record: QueuedRecord,
        bytes: &[u8],
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<(), PlaybackStop<E>> {
        let thread = ThreadId {
            tgid: record.pid,
            tid: record.tid,
        };
        let selection = &self.attrs[attr];
        if selection.is_kvm_event {
            self.add_process(thread.tgid);
            match self.names.vm_evidence() {
                Some(evidence) if selection.is_vcpu_thread_event => {
                    evidence.add_vcpu_event(thread.tgid);
                }
                Some(evidence) => evidence.add_kvm_event(thread.tgid),
                None => {}
            }
        }
        let (mut raw, mut sample_weight) = (bytes, 0);
        if selection.is_sampled {
            let Some(sample) = self.metadata.attrs[attr].sample(bytes) else {
                return Ok(());
            };
            raw = bytes.get(sample.raw).unwrap_or_default();
            sample_weight = sample.weight;
        }
        let names = &self.names;
        let vm_name = |tgid| names.known_vm_name(tgid);
        let mut thread_name = |thread| names.comm(thread).to_owned();
        let subject = self
            .attribution
            .attribute(attr, thread, raw, &vm_name, &mut thread_name);
        let (Some(subject), Some(slot)) = (subject, selection.slot) else {
            return Ok(());
        };
        if let Some(subject) = subject {
            self.add_process(subject.tgid);
        }
        if !self.losses.is_empty() {
            self.emit_losses(time_ns, each)?;
        }
        if !self.clock.try_advance(time_ns) {
            self.advance_clock(time_ns, true, each)?;
        }
        self.events += 1;
        self.loss.sampled = self.loss.sampled.saturating_add(sample_weight);
        let event = StreamItem::Event(Event {
            time_ns,
            cpu: record.cpu,
            tgid: thread.tgid,
            tid: thread.tid,
            subject,
            named_vcpu: self.attribution.named_vcpu(thread),
            slot,
            sample_weight,
            raw,
        });
        let vcpu = match subject {
            Some(subject) if self.identifies_vcpus => {
                self.attribution.vcpu_of_event(attr, subject, raw)
            }
            _ => None,
        };
        self.emit_with_vcpu(&event, vcpu, each)
    }

    /// Stores that a process had an event of KVM or a selected one, if processes are collected.
    #[inline]
    fn add_process(&mut self, tgid: u32) {
        if self.collects_processes && self.last_process != Some(tgid) {
            self.last_process = Some(tgid);
            // The processes are only listed if none is selected. An incomplete list is enough if
            // there are very many.
            if self.processes.len() < MAX_KNOWN_TASKS {
                self.processes.insert(tgid);
            }
        }
    }

    /// Emits a record that is not an event, or an event that cannot be decoded.
    #[cold]
    fn emit_other_record<E>(
        &mut self,
        kind: RecordKind,
        time_ns: u64,
        record: QueuedRecord,
        bytes: &[u8],
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<bool, PlaybackStop<E>> {
        let item = match kind {
            RecordKind::Damaged => Some(StreamItem::Damaged {
                time_ns,
                thread: ThreadId {
                    tgid: record.pid,
                    tid: record.tid,
                },
            }),
            RecordKind::Undecodable | RecordKind::Missing => Some(StreamItem::Lost {
                slot: None,
                cpu: None,
                count: 0,
                time_ns,
            }),
            RecordKind::Event(_) | RecordKind::NonSample => self.non_sample_item(time_ns, bytes),
        };
        let Some(item) = item else {
            return Ok(false);
        };
        let is_event = kind == RecordKind::Damaged;
        let advances_clock = is_event || matches!(item, StreamItem::Lost { .. });
        if advances_clock && !self.clock.try_advance(time_ns) {
            self.advance_clock(time_ns, is_event, each)?;
        }
        self.loss.damaged += u64::from(kind == RecordKind::Undecodable);
        match &item {
            StreamItem::Damaged { .. } => self.loss.damaged += 1,
            StreamItem::Lost { count, .. } => {
                self.loss.lost = self.loss.lost.saturating_add(*count);
            }
            _ => {}
        }
        self.emit(&item, each)?;
        Ok(is_event)
    }

    /// Emits a loss for each CPU that may have lost events before `time_ns`.
    #[cold]
    pub(super) fn emit_losses<E>(
        &mut self,
        time_ns: u64,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<(), PlaybackStop<E>> {
        for cpu in self.losses.cpus_before(time_ns) {
            let lost = StreamItem::Lost {
                slot: None,
                cpu,
                count: 0,
                time_ns,
            };
            self.emit(&lost, each)?;
        }
        Ok(())
    }

    /// Advances the clock past the start or the end of the requested range or past the end of an
    /// interval, and emits these.
    #[cold]
    fn advance_clock<E>(
        &mut self,
        time_ns: u64,
        is_event: bool,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<(), PlaybackStop<E>> {
        self.update_unattributed();
        let step = self.clock.advance(time_ns, is_event);
        self.emit_clock_step(step, each)?;
        match self.clock.is_finished() {
            true => Err(PlaybackStop::LimitReached),
            false => Ok(()),
        }
    }

    /// Emits the start of the requested range and the ends of intervals.
    pub(super) fn emit_clock_step<E>(
        &mut self,
        step: ClockStep,
        each: &mut impl FnMut(&StreamItem<'_>, &PlaybackContext<'_>) -> Result<(), E>,
    ) -> Result<(), PlaybackStop<E>> {
        if let Some(start_ns) = step.range_start_ns {
            // What is lost before the first selected event is in the range, unless the range starts later.
            if self.clock.starts_late() {
                self.unattributed_before = self.attribution.unattributed();
                // What is missing at the end of the recording is not before the range.
                self.loss = Loss {
                    damaged: u64::from(self.defect.is_some()),
                    ..Loss::default()
                };
                self.events = 0;
            }
            self.emit(&StreamItem::RangeStart { start_ns }, each)?;
        }
        for end_ns in step.interval_ends_ns.into_iter().flatten() {
            self.emit(&StreamItem::IntervalEnd { end_ns }, each)?;
        }
        Ok(())
    }

    /// Handles a record other than a sample. Returns the item to emit, if any.
    fn non_sample_item(&mut self, time_ns: u64, record: &[u8]) -> Option<StreamItem<'static>> {
        if let Some((id, count)) = decode::lost(record) {
            let id = id.filter(|_| self.is_recorded_by_us);
            let mut cpu = None;
            if count == 0
                && let Some(to_ns) = id
            {
                // `kvm-collector record` writes a loss window as a record with a count of 0 and the
                // end of the window in place of the id.
                cpu = self.metadata.non_sample_cpu(record);
                self.losses.add(cpu.unwrap_or(0), to_ns);
            }
            let attr = id.and_then(|id| self.metadata.attr_index(id));
            return Some(StreamItem::Lost {
                slot: attr.map(|attr| self.attrs[attr].slot.unwrap_or(StreamItem::UNSELECTED_SLOT)),
                cpu,
                count,
                time_ns,
            });
        }
        self.names.add_record(record);
        let tid = decode::forked_or_exited_tid(record)?;
        self.attribution.remove_thread(tid);
        Some(StreamItem::ThreadEnd { tid })
    }
}
