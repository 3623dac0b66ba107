//! Writing the running kernel's events to files.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Due, OwnCost, Schedule,
    drain::RingRead,
    progress::{Progress, say},
    queue::{Message, NewNames, QueuedBatch, Receiver, Tick, queue},
    stream::{StreamReader, joined, spawn_writer},
};
use crate::{
    host::clock,
    model::{EventCount, Record, ThreadId},
    recording::{RecordingStats, Recorder, BatchOutcome},
    source::{Live, LiveOptions, OrderedStream},
    timing::{Attribution, ExitTrigger},
};

/// A live recording.
#[derive(Debug)]
pub struct RecordSession {
    /// The events' source.
    pub live: Live,
    /// The files.
    pub recorder: Recorder,
    /// When the flight recorder writes by itself.
    pub trigger: Option<ExitTrigger>,
    /// Where it writes, as messages name it.
    pub output: PathBuf,
    /// It is the flight recorder, which writes when told to.
    pub is_flight_recorder: bool,
    /// How much memory the events take at most that wait to be written.
    pub queue_bytes: usize,
    /// Say nothing on stderr.
    pub quiet: bool,
}

/// What was recorded.
#[derive(Debug)]
pub struct RecordSummary {
    /// Events, bytes and files.
    pub recorded: RecordingStats,
    /// Events that are not in the files.
    pub lost: u64,
    /// Recording ended because a file may be no longer.
    pub is_full: bool,
    /// Why recording ended early.
    pub failed: Option<io::Error>,
}

impl RecordSession {
    /// Records until the schedule says that it is over, or the file is full. `own_cost` is printed at the end.
    ///
    /// This thread reads the rings, and another one writes: see [`super::queue`].
    ///
    /// # Errors
    /// When the kernel cannot be read. A failure to write is in the summary, with what was written before.
    pub async fn run(
        self,
        schedule: &mut Schedule,
        own_cost: Option<&OwnCost>,
    ) -> anyhow::Result<RecordSummary> {
        let mut progress = Progress::new(self.quiet);
        let began = Instant::now();
        let mut live = self.live;
        schedule.watch_threads(live.notices_fd()?)?;
        let (sender, receiver) = queue(self.queue_bytes);
        let recorded = Arc::new(Mutex::new(RecordingStats::default()));
        let is_ordered = self.trigger.is_some();
        let writer = Writer {
            recorded: Arc::clone(&recorded),
            output: self.output.clone(),
            quiet: self.quiet,
            ..Writer::new(self.recorder, self.trigger, live.options())
        };
        let mut usr1 = signal(SignalKind::user_defined1())?;
        let mut reader = StreamReader::new(&mut live, sender, is_ordered, true)?;
        let writing = spawn_writer(move || writer.run(&receiver))?;
        while !reader.is_ended() {
            tokio::select! {
                biased;
                due = schedule.next() => match due? {
                    Due::End => break,
                    Due::Threads => reader.learn_threads()?,
                    Due::Refresh | Due::Interval => {
                        let lost = reader.refresh(true)?;
                        let recorded = *recorded.lock().unwrap_or_else(PoisonError::into_inner);
                        progress.show(began, recorded, lost);
                    }
                },
                _ = usr1.recv() => reader.tick(Tick {
                    dump: self.is_flight_recorder,
                    flush: !self.is_flight_recorder,
                    ..Tick::default()
                }),
                () = reader.ready() => {}
            }
            reader.read()?;
        }
        let counts = reader.finish().await?;
        let mut writer = joined(writing)?;
        writer.record_losses(&counts.events, clock::monotonic_ns());
        let missed = counts.loss.missed.unwrap_or(0);
        if missed > 0 {
            writer.recorder.record_loss(None, missed, counts.time_ns);
        }
        progress.end();
        let recorded = writer
            .recorder
            .finish()
            .with_context(|| format!("cannot finish {}", self.output.display()))?;
        let lost = counts.loss.lost
            + missed
            + recorded.omitted_events
            + writer.left_out
            + counts.loss.unattributed
            + writer.unattributed;
        if let Some(own_cost) = own_cost {
            own_cost.print(&live)?;
        }
        Ok(RecordSummary {
            recorded,
            lost,
            is_full: writer.is_full,
            failed: writer.failed,
        })
    }
}

/// What the writing thread owns.
struct Writer {
    recorder: Recorder,
    trigger: Option<(ExitTrigger, OrderedStream)>,
    /// Selects by VM name what the eBPF programs have let through.
    by_name: Option<Attribution>,
    /// Names of VMs by process, where events are selected by them.
    vm_names: HashMap<u32, String>,
    /// Per event, how many losses are in the file.
    lost: Vec<u64>,
    unattributed: u64,
    /// Events that came after a write had failed.
    left_out: u64,
    /// The file may be no longer: recording is over.
    is_full: bool,
    /// Why recording is over.
    failed: Option<io::Error>,
    /// What has been recorded up to now, for the reading thread to show.
    recorded: Arc<Mutex<RecordingStats>>,
    output: PathBuf,
    quiet: bool,
}

impl Writer {
    fn new(recorder: Recorder, trigger: Option<ExitTrigger>, options: &LiveOptions) -> Self {
        let formats = &options.events;
        let selection = options.selection.after_kernel_filter();
        Self {
            recorder,
            trigger: trigger.map(|it| (it, OrderedStream::new(formats, selection.clone()))),
            by_name: selection
                .is_by_name()
                .then(|| Attribution::new(formats.iter().map(Some), selection)),
            vm_names: HashMap::new(),
            lost: vec![0; formats.len()],
            unattributed: 0,
            left_out: 0,
            is_full: false,
            failed: None,
            recorded: Arc::default(),
            output: PathBuf::new(),
            quiet: false,
        }
    }

    /// Writes all that comes through the queue. After an error, the rest is counted as left out.
    fn run(mut self, queue: &Receiver) -> Self {
        while let Some(message) = queue.next() {
            if self.failed.is_some() {
                self.leave_out(&message);
                continue;
            }
            if self.is_full {
                continue;
            }
            let taken = self.take(message);
            self.note(taken);
            if self.failed.is_some() || self.is_full {
                queue.end();
            }
            *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = self.recorder.progress();
        }
        if self.failed.is_none() {
            let taken = self.fire_trigger(u64::MAX);
            self.note(taken);
        }
        self
    }

    fn take(&mut self, message: Message) -> io::Result<BatchOutcome> {
        match message {
            Message::Batch(queued) => self.take_batch(queued),
            Message::Tick(tick) => self.take_tick(tick),
        }
    }

    fn note(&mut self, taken: io::Result<BatchOutcome>) {
        match taken {
            Ok(BatchOutcome::Stored) => {}
            Ok(BatchOutcome::FileFull) => self.is_full = true,
            Ok(BatchOutcome::DumpWritten) if self.quiet => {}
            Ok(BatchOutcome::DumpWritten) => say(&format!(
                "wrote the last events to {}",
                self.output.display()
            )),
            Err(error) => self.failed = Some(error),
        }
    }

    fn take_tick(&mut self, tick: Tick) -> io::Result<BatchOutcome> {
        if let Some((events, time_ns)) = tick.counts {
            self.record_losses(&events, time_ns);
        }
        if tick.dump {
            self.recorder.write_dump()?;
            return Ok(BatchOutcome::DumpWritten);
        }
        if tick.flush {
            self.recorder.flush()?;
        }
        self.fire_trigger(tick.complete_until_ns)
    }

    /// Records a batch. The trigger sees its events some time later, when they can be put in order.
    fn take_batch(&mut self, queued: QueuedBatch) -> io::Result<BatchOutcome> {
        let RingRead { batch, losses } = queued.read;
        for loss in losses {
            self.recorder
                .mark_loss_window(loss.cpu, loss.from_ns, loss.to_ns);
            if let Some((_, ordered)) = &mut self.trigger {
                ordered.add_loss_window(loss.cpu, loss.from_ns, loss.to_ns);
            }
        }
        self.learn(queued.names);
        if let Some((_, ordered)) = &mut self.trigger {
            ordered.add(batch.clone());
        }
        let taken = match &mut self.by_name {
            None => self.recorder.record_batch(&batch)?,
            Some(attribution) => {
                let names = &self.vm_names;
                let taken = self.recorder.record_selected(&batch, |record| {
                    is_selected(attribution, names, record)
                })?;
                self.unattributed = attribution.unattributed();
                taken
            }
        };
        match taken {
            BatchOutcome::Stored => self.fire_trigger(queued.complete_until_ns),
            BatchOutcome::FileFull | BatchOutcome::DumpWritten => Ok(taken),
        }
    }

    fn learn(&mut self, names: NewNames) {
        for (thread, name) in names.threads {
            self.recorder.set_thread_name(thread, name);
        }
        for (tgid, name) in names.vms {
            if self.by_name.is_some() {
                self.vm_names.insert(tgid, name.clone());
            }
            self.recorder.set_vm_name(tgid, name);
        }
    }

    /// Counts the events of a batch that cannot be written any more.
    fn leave_out(&mut self, message: &Message) {
        let Message::Batch(queued) = message else {
            return;
        };
        let events = queued.read.batch.records().map(|(_, record)| record);
        let (by_name, names) = (&mut self.by_name, &self.vm_names);
        let selected = events.filter(|record| {
            let is_event = record.thread_end_comm().is_none();
            by_name.as_mut().map_or(is_event, |attribution| {
                is_selected(attribution, names, record)
            })
        });
        self.left_out += selected.count() as u64;
    }

    /// Shows the trigger the events up to a time, which can be put in order by now.
    fn fire_trigger(&mut self, until_ns: u64) -> io::Result<BatchOutcome> {
        let Some((trigger, ordered)) = &mut self.trigger else {
            return Ok(BatchOutcome::Stored);
        };
        let names = &self.vm_names;
        let mut fired = false;
        let vm_name = |tgid| names.get(&tgid).cloned();
        let Ok(()) = ordered.emit_until(until_ns, &vm_name, |item, _| {
            fired |= trigger.add_item(item);
            Ok::<_, std::convert::Infallible>(())
        });
        if fired {
            return self.recorder.trigger_dump();
        }
        Ok(BatchOutcome::Stored)
    }

    /// Puts new losses into the file.
    fn record_losses(&mut self, events: &[EventCount], time_ns: u64) {
        for (slot, (event, known)) in events.iter().zip(&mut self.lost).enumerate() {
            let lost = event.lost.saturating_sub(*known);
            if lost > 0 {
                *known = event.lost;
                self.recorder.record_loss(Some(slot), lost, time_ns);
            }
        }
    }
}

/// Is an event selected by the name of its VM?
fn is_selected(
    attribution: &mut Attribution,
    names: &HashMap<u32, String>,
    record: &Record<'_>,
) -> bool {
    let header = &record.header;
    if record.thread_end_comm().is_some() {
        // Its number may be another thread's from here on, and so may that of its process.
        attribution.thread_end(header.tid);
        return false;
    }
    let thread = ThreadId {
        tgid: header.tgid,
        tid: header.tid,
    };
    let vm_name = |tgid| names.get(&tgid).cloned();
    attribution
        .attribute(usize::from(header.slot), thread, record.raw, &vm_name)
        .is_some()
}

#[expect(clippy::cast_precision_loss, reason = "rounded for display")]
/// A size as people read it.
#[must_use]
pub fn in_mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use kvm_ebpf_common::THREAD_END_SLOT;

    use super::{super::queue::tests::batch_of, *};
    use crate::{
        recording::{HostFacts, RecordedEvent, RecorderOptions},
        timing::Selection,
        tracefs::Format,
    };

    fn writer(path: PathBuf) -> Writer {
        let options = RecorderOptions {
            path: Some(path),
            ..RecorderOptions::default()
        };
        let event = RecordedEvent {
            system: "kvm".into(),
            name: "kvm_fpu".into(),
            id: 7,
            format: String::new(),
        };
        let recorder = Recorder::new(options, &[event], &HostFacts::default()).unwrap();
        Writer {
            quiet: true,
            ..Writer::new(recorder, None, &LiveOptions::default())
        }
    }

    fn send(sender: &super::super::queue::Sender, events: usize) {
        sender.push(QueuedBatch {
            read: RingRead {
                batch: batch_of(&vec![(0, 7, 8); events]),
                losses: Vec::new(),
            },
            names: NewNames::default(),
            complete_until_ns: 0,
        });
    }

    /// Whether they were written, buffered when the write failed, or still in the queue: no event goes uncounted.
    #[test]
    fn after_a_failed_write_the_events_that_were_read_are_counted() {
        let (reader, pipe) = rustix::pipe::pipe().unwrap();
        let mut writer = writer(format!("/proc/self/fd/{}", pipe.as_raw_fd()).into());
        drop(reader);
        let (sender, receiver) = queue(64 << 20);
        for _ in 0..20 {
            send(&sender, 1000);
        }
        assert!(!sender.is_ended());
        let sending = std::thread::spawn(move || {
            while !sender.is_ended() {
                std::thread::yield_now();
            }
            send(&sender, 500);
        });
        writer = writer.run(&receiver);
        sending.join().unwrap();
        let error = writer.failed.expect("nobody reads the pipe");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let buffered = writer.recorder.progress().events;
        assert!(writer.left_out > 500, "{}", writer.left_out);
        assert_eq!(buffered + writer.left_out, 20_500);
    }

    /// The main thread's end is the process's, whose number is another VM's afterwards.
    #[test]
    fn a_process_whose_number_was_used_before_is_decided_about_anew() {
        let text = "name: kvm_fpu\nID: 7\nformat:\n\tfield:u32 load;\toffset:8;\tsize:4;\tsigned:0;\n\nprint fmt: \"%u\", REC->load\n";
        let format = Format::parse("kvm", text).unwrap();
        let selection = Selection {
            vms: vec![globset::Glob::new("web-*").unwrap().compile_matcher()],
            ..Selection::default()
        };
        let path = std::env::temp_dir().join(format!("reused-{}", std::process::id()));
        let mut writer = writer(path.clone());
        writer.by_name = Some(Attribution::new([Some(&format)], selection));
        let mut take = |records: &[(u16, u32, u32)], vm: &str| {
            let names = NewNames {
                vms: vec![(7, vm.to_owned())],
                ..NewNames::default()
            };
            let queued = QueuedBatch {
                read: RingRead {
                    batch: batch_of(records),
                    losses: Vec::new(),
                },
                names,
                complete_until_ns: 0,
            };
            writer.take_batch(queued).unwrap();
            writer.recorder.progress().events
        };
        assert_eq!(take(&[(0, 7, 8), (0, 7, 8)], "db"), 0);
        let end = (THREAD_END_SLOT, 7, 7);
        assert_eq!(take(&[(0, 7, 8), end], "db"), 0);
        assert_eq!(take(&[(0, 7, 8), (0, 7, 8)], "web-1"), 2);
        std::fs::remove_file(path).unwrap();
    }
}
