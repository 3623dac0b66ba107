//! Passing on events in the order of time, with what is known by then.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    AttrSelection, Context, Names, PlayOptions, RecordingSummary,
    ahead::Step,
    scan::{QueuedRecord, RecordKind, Scanned},
    time::RecordedTime,
};
use crate::{
    model::{Event, Loss, StreamItem, Thread, capacity::MOST_NAMED},
    recording::{Catalog, ReadError, kind},
    source::{loss_windows::LossWindows, window::Window},
    timing::Attribution,
};

/// Records that are held back at most, at 32 bytes each, until a round is over: perf's rounds are as long as its buffers.
const MOST_HELD: usize = 1 << 21;

/// And their bytes.
const MOST_HELD_BYTES: usize = 512 << 20;

/// Why passing on stops.
enum Stop<E> {
    Error(E),
    Enough,
}

/// What changes while a recording is played.
pub(super) struct Player<'a> {
    catalog: &'a Catalog,
    attrs: &'a [AttrSelection],
    /// Lost events are said by the id of their event.
    is_ours: bool,
    attribution: Attribution,
    losses: LossWindows,
    /// Collect the processes seen, to say which there are.
    is_by_process: bool,
    processes: BTreeSet<u32>,
    last_process: Option<u32>,
    time: RecordedTime,
    names: Names,
    loss: Loss,
    /// Of the loss, what the attribution has not said yet.
    defect: Option<String>,
    events: u64,
}

impl<'a> Player<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        attrs: &'a [AttrSelection],
        attribution: Attribution,
        options: &PlayOptions,
    ) -> Self {
        Self {
            catalog,
            attrs,
            is_ours: catalog.is_ours(),
            attribution,
            losses: LossWindows::default(),
            is_by_process: options.selection.is_by_process(),
            processes: BTreeSet::new(),
            last_process: None,
            time: RecordedTime::new(options.limits),
            names: Names::from_lines(&catalog.vm_names),
            loss: Loss::default(),
            defect: None,
            events: 0,
        }
    }

    /// Takes what is read, and passes on items until there are no more, or the requested time has passed.
    pub(super) fn play<E: From<ReadError>>(
        mut self,
        next: &mut dyn FnMut() -> Result<Step, ReadError>,
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<RecordingSummary, E> {
        let mut window = Window::default();
        let mut held_bytes = 0;
        let mut is_enough = false;
        while !is_enough {
            let scanned = match next()? {
                Step::Run(scanned) => scanned,
                Step::End(defect) => {
                    self.loss.damaged += u64::from(defect.is_some());
                    self.defect = defect;
                    break;
                }
            };
            self.take_in(&scanned);
            let until_ns = scanned.until_ns;
            if !scanned.timed.is_empty() {
                held_bytes += scanned.run.len();
                window.add(scanned.run, scanned.timed);
            }
            let mut most_held = MOST_HELD;
            if held_bytes > MOST_HELD_BYTES {
                most_held = window.held() / 2;
            }
            if until_ns.is_some() || window.held() > most_held {
                let given =
                    window.give_out(until_ns.unwrap_or(0), most_held, |run, time_ns, item| {
                        self.give(run, time_ns, item, each)
                    });
                held_bytes = window.block_bytes(Bytes::len);
                is_enough = enough(given)?;
            }
        }
        if !is_enough {
            let given = window.give_out(u64::MAX, 0, |run, time_ns, item| {
                self.give(run, time_ns, item, each)
            });
            enough(given)?;
        }
        self.loss.late = window.late();
        self.loss.unattributed = self.attribution.unattributed();
        self.end(each)
    }

    fn end<E>(
        mut self,
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<RecordingSummary, E> {
        if !self.losses.is_empty() {
            match self.mark_losses(u64::MAX, each) {
                Ok(()) | Err(Stop::Enough) => {}
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        if let Some(end_ns) = self.time.finish() {
            match self.pass_on(&StreamItem::Interval { end_ns }, each) {
                Ok(()) | Err(Stop::Enough) => {}
                Err(Stop::Error(error)) => return Err(error),
            }
        }
        let names = self.names;
        Ok(RecordingSummary {
            began_ns: self.time.began_ns(),
            end_ns: self.time.end_ns(),
            events: self.events,
            loss: self.loss,
            defect: self.defect,
            processes: self
                .processes
                .iter()
                .map(|tgid| (*tgid, names.vm(*tgid)))
                .collect(),
            names,
        })
    }

    /// What of a run is not to wait for its turn.
    fn take_in(&mut self, scanned: &Scanned) {
        self.loss.damaged += scanned.damaged;
        let untimed = scanned.untimed.iter();
        for record in untimed.filter_map(|at| kind::at(&scanned.run, *at)) {
            self.names.learn(record);
        }
    }

    #[inline(always)]
    fn pass_on<E>(
        &mut self,
        item: &StreamItem<'_>,
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let context = Context {
            names: &self.names,
            loss: &self.loss,
            events: self.events,
            began_ns: self.time.began_ns(),
        };
        each(item, &context).map_err(Stop::Error)
    }

    /// Its turn has come. Is it an event?
    #[inline]
    fn give<E>(
        &mut self,
        run: &Bytes,
        time_ns: u64,
        record: QueuedRecord,
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<bool, Stop<E>> {
        match record.kind() {
            RecordKind::Event(attr) => {
                self.give_event(attr, time_ns, record, record.bytes(run), each)?;
                Ok(true)
            }
            kind => self.give_other(kind, time_ns, record, record.bytes(run), each),
        }
    }

    /// The event of a sample, if it is selected.
    #[inline(always)]
    fn give_event<E>(
        &mut self,
        attr: usize,
        time_ns: u64,
        record: QueuedRecord,
        bytes: &[u8],
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let thread = Thread {
            tgid: record.pid,
            tid: record.tid,
        };
        if self.is_by_process && self.last_process != Some(thread.tgid) {
            self.last_process = Some(thread.tgid);
            // They are listed where none of them is selected; of so many, a part will do.
            if self.processes.len() < MOST_NAMED {
                self.processes.insert(thread.tgid);
            }
        }
        let selection = &self.attrs[attr];
        let (mut raw, mut sample_weight) = (bytes, 0);
        if selection.is_sampled {
            let Some(sample) = self.catalog.attrs[attr].sample(bytes) else {
                return Ok(());
            };
            raw = bytes.get(sample.raw).unwrap_or_default();
            sample_weight = sample.weight;
        }
        let names = &self.names;
        let vm_name = |tgid| names.vm_known(tgid);
        let subject = self.attribution.attribute(attr, thread, raw, &vm_name);
        let (Some(subject), Some(slot)) = (subject, selection.slot) else {
            return Ok(());
        };
        if !self.losses.is_empty() {
            self.mark_losses(time_ns, each)?;
        }
        if !self.time.reach_soon(time_ns) {
            self.reach(time_ns, true, each)?;
        }
        self.events += 1;
        self.loss.sampled = self.loss.sampled.saturating_add(sample_weight);
        let event = StreamItem::Event(Event {
            time_ns,
            cpu: record.cpu,
            tgid: thread.tgid,
            tid: thread.tid,
            subject,
            slot,
            sample_weight,
            raw,
        });
        self.pass_on(&event, each)
    }

    /// What is no event that can be decoded.
    #[cold]
    fn give_other<E>(
        &mut self,
        kind: RecordKind,
        time_ns: u64,
        record: QueuedRecord,
        bytes: &[u8],
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<bool, Stop<E>> {
        let item = match kind {
            RecordKind::Damaged => Some(StreamItem::Damaged {
                time_ns,
                thread: Thread {
                    tgid: record.pid,
                    tid: record.tid,
                },
            }),
            RecordKind::Missing => Some(StreamItem::Lost {
                slot: None,
                cpu: None,
                count: 0,
                time_ns,
            }),
            RecordKind::Event(_) | RecordKind::Other => self.other(time_ns, bytes),
        };
        let Some(item) = item else {
            return Ok(false);
        };
        let is_event = kind == RecordKind::Damaged;
        let counts = is_event || matches!(item, StreamItem::Lost { .. });
        if counts && !self.time.reach_soon(time_ns) {
            self.reach(time_ns, is_event, each)?;
        }
        match &item {
            StreamItem::Damaged { .. } => self.loss.damaged += 1,
            StreamItem::Lost { count, .. } => {
                self.loss.lost = self.loss.lost.saturating_add(*count);
            }
            _ => {}
        }
        self.pass_on(&item, each)?;
        Ok(is_event)
    }

    /// Marks that events are missing before a time, in all CPUs that lost some around it.
    #[cold]
    fn mark_losses<E>(
        &mut self,
        time_ns: u64,
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        for cpu in self.losses.before(time_ns) {
            let lost = StreamItem::Lost {
                slot: None,
                cpu,
                count: 0,
                time_ns,
            };
            self.pass_on(&lost, each)?;
        }
        Ok(())
    }

    /// Time has come to a limit, or to the end of an interval.
    #[cold]
    fn reach<E>(
        &mut self,
        time_ns: u64,
        is_event: bool,
        each: &mut impl FnMut(&StreamItem<'_>, &Context<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.loss.unattributed = self.attribution.unattributed();
        for end_ns in self.time.reach(time_ns, is_event).into_iter().flatten() {
            self.pass_on(&StreamItem::Interval { end_ns }, each)?;
        }
        match self.time.is_over() {
            true => Err(Stop::Enough),
            false => Ok(()),
        }
    }

    /// A record that is no sample.
    fn other(&mut self, time_ns: u64, record: &[u8]) -> Option<StreamItem<'static>> {
        if let Some((id, count)) = kind::lost(record) {
            let id = id.filter(|_| self.is_ours);
            let mut cpu = None;
            if count == 0
                && let Some(to_ns) = id
            {
                // A mark of ours.
                cpu = self.catalog.cpu_of(record);
                self.losses.begin(cpu.unwrap_or(0), to_ns);
            }
            let attr = id.and_then(|id| self.catalog.attr_of(id));
            return Some(StreamItem::Lost {
                slot: attr.map(|attr| self.attrs[attr].slot.unwrap_or(StreamItem::UNSELECTED)),
                cpu,
                count,
                time_ns,
            });
        }
        self.names.learn(record);
        let tid = kind::new_or_ended_thread(record)?;
        self.attribution.thread_end(tid);
        Some(StreamItem::ThreadEnd { tid })
    }
}

/// Has enough been passed on?
fn enough<E>(given: Result<(), Stop<E>>) -> Result<bool, E> {
    match given {
        Ok(()) => Ok(false),
        Err(Stop::Enough) => Ok(true),
        Err(Stop::Error(error)) => Err(error),
    }
}
