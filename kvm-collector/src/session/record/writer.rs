//! The writing thread of `record`.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    super::{
        drain::RingRead,
        queue::{Message, NewNames, QueuedBatch, Receiver, Update},
    },
    dump_reporter::DumpReporter,
};
use crate::{
    model::{EventCount, Record, ThreadId, VmName},
    recording::{BatchOutcome, Recorder, RecordingStats},
    source::{LiveOptions, OrderedStream},
    timing::{Attribution, ExitTrigger},
};

/// State of the writing thread.
pub(super) struct Writer {
    pub(super) recorder: Recorder,
    trigger: Option<(ExitTrigger, OrderedStream)>,
    pub(super) dumps: DumpReporter,
    /// Selects events by VM name. `None` if they are not selected by VM name.
    attribution: Option<Attribution>,
    /// VM names by process id. Empty unless events are selected by VM name or there is a trigger.
    pub(super) vm_names: HashMap<u32, VmName>,
    /// Per event, the number of lost events that the file already reports.
    recorded_losses: Vec<u64>,
    /// Number of events of unknown VMs.
    pub(super) unattributed: u64,
    /// Number of events that arrived after a write error.
    pub(super) unwritten: u64,
    /// The file has reached its maximum size. Nothing more is written.
    pub(super) is_file_full: bool,
    /// The first write error. Nothing more is written.
    pub(super) write_error: Option<io::Error>,
    /// Number of events and bytes recorded so far, for the progress line.
    pub(super) recorded: Arc<Mutex<RecordingStats>>,
}

impl Writer {
    pub(super) fn new(
        recorder: Recorder,
        trigger: Option<ExitTrigger>,
        options: &LiveOptions,
    ) -> Self {
        let formats = &options.events;
        let selection = options.selection.after_kernel_filter();
        Self {
            recorder,
            trigger: trigger.map(|it| (it, OrderedStream::new(formats, selection.clone()))),
            attribution: selection
                .is_by_name()
                .then(|| Attribution::new(formats.iter().map(Some), selection)),
            dumps: DumpReporter::new(formats),
            vm_names: HashMap::new(),
            recorded_losses: vec![0; formats.len()],
            unattributed: 0,
            unwritten: 0,
            is_file_full: false,
            write_error: None,
            recorded: Arc::default(),
        }
    }

    /// Writes all messages of the queue. After a write error, counts the remaining events as unwritten.
    pub(super) fn run(mut self, queue: &Receiver) -> Self {
        while let Some(message) = queue.receive() {
            if self.write_error.is_some() {
                self.count_unwritten(&message);
                continue;
            }
            if self.is_file_full {
                continue;
            }
            let outcome = self.handle_message(message);
            self.store_result(outcome);
            if self.write_error.is_some() || self.is_file_full {
                queue.close();
            }
            *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) =
                self.recorder.progress();
        }
        if self.write_error.is_none() {
            let outcome = self.run_trigger(u64::MAX);
            self.store_result(outcome);
        }
        self
    }

    fn handle_message(&mut self, message: Message) -> io::Result<BatchOutcome> {
        match message {
            Message::Batch(queued) => self.record_batch(queued),
            Message::Update(update) => self.handle_update(update),
        }
    }

    fn store_result(&mut self, result: io::Result<BatchOutcome>) {
        match result {
            Ok(BatchOutcome::Stored) => {}
            Ok(BatchOutcome::FileFull) => self.is_file_full = true,
            Ok(BatchOutcome::DumpWritten) => {
                let range_ns = self.recorder.progress().last_dump_ns;
                let vm_names = &self.vm_names;
                self.dumps.report(vm_names, range_ns);
            }
            Err(error) => self.write_error = Some(error),
        }
    }

    fn handle_update(&mut self, update: Update) -> io::Result<BatchOutcome> {
        if let Some((events, time_ns)) = update.counts {
            self.record_losses(&events, time_ns);
        }
        if update.dump {
            self.recorder.write_dump()?;
            return Ok(BatchOutcome::DumpWritten);
        }
        if update.flush {
            self.recorder.flush()?;
        }
        self.run_trigger(update.complete_until_ns)
    }

    /// Records a batch. The trigger gets the events later, in the order of time.
    fn record_batch(&mut self, queued: QueuedBatch) -> io::Result<BatchOutcome> {
        let RingRead { batch, losses } = queued.read;
        for loss in losses {
            self.recorder
                .mark_loss_window(loss.cpu, loss.from_ns, loss.to_ns);
            if let Some((_, ordered)) = &mut self.trigger {
                ordered.add_loss_window(loss.cpu, loss.from_ns, loss.to_ns);
            }
        }
        self.set_names(queued.names);
        if let Some((_, ordered)) = &mut self.trigger {
            ordered.add(batch.clone());
        }
        let outcome = match &mut self.attribution {
            None => self.recorder.record_batch(&batch)?,
            Some(attribution) => {
                let names = &self.vm_names;
                let outcome = self
                    .recorder
                    .record_selected(&batch, |record| is_selected(attribution, names, record))?;
                self.unattributed = attribution.unattributed();
                outcome
            }
        };
        match outcome {
            BatchOutcome::Stored => self.run_trigger(queued.complete_until_ns),
            BatchOutcome::FileFull | BatchOutcome::DumpWritten => Ok(outcome),
        }
    }

    fn set_names(&mut self, names: NewNames) {
        for (thread, name) in names.threads {
            self.recorder.set_thread_name(thread, name);
        }
        for (tgid, name) in names.vms {
            if self.attribution.is_some() || self.trigger.is_some() {
                self.vm_names.insert(tgid, name.clone());
            }
            self.recorder.set_vm_name(tgid, name);
        }
    }

    /// Counts the selected events of a batch as unwritten.
    fn count_unwritten(&mut self, message: &Message) {
        let Message::Batch(queued) = message else {
            return;
        };
        let events = queued.read.batch.records().map(|(_, record)| record);
        let (by_name, names) = (&mut self.attribution, &self.vm_names);
        let selected = events.filter(|record| {
            let is_event = record.thread_end_comm().is_none();
            by_name.as_mut().map_or(is_event, |attribution| {
                is_selected(attribution, names, record)
            })
        });
        self.unwritten += selected.count() as u64;
    }

    /// Passes, in order, all events before a time to the trigger. Writes a dump if it fires.
    fn run_trigger(&mut self, until_ns: u64) -> io::Result<BatchOutcome> {
        let Some((trigger, ordered)) = &mut self.trigger else {
            return Ok(BatchOutcome::Stored);
        };
        let names = &self.vm_names;
        let dumps = &mut self.dumps;
        let mut fired = false;
        let vm_name = |tgid| names.get(&tgid).cloned();
        let Ok(()) = ordered.emit_until(until_ns, &vm_name, |item, _| {
            if let Some(exit) = trigger.add_item(item) {
                fired = true;
                dumps.add_exit(exit);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        if fired {
            return self.recorder.trigger_dump();
        }
        Ok(BatchOutcome::Stored)
    }

    /// Records the events that were lost since the last call.
    pub(super) fn record_losses(&mut self, events: &[EventCount], time_ns: u64) {
        for (slot, (event, recorded)) in events.iter().zip(&mut self.recorded_losses).enumerate() {
            let lost = event.lost.saturating_sub(*recorded);
            if lost > 0 {
                *recorded = event.lost;
                self.recorder.record_loss(Some(slot), lost, time_ns);
            }
        }
    }
}

/// Returns whether an event is selected by the name of its VM.
fn is_selected(
    attribution: &mut Attribution,
    names: &HashMap<u32, VmName>,
    record: &Record<'_>,
) -> bool {
    let header = &record.header;
    if record.thread_end_comm().is_some() {
        // The kernel may reuse the thread id, and the process id of a main thread, from here on.
        attribution.remove_thread(header.tid);
        return false;
    }
    let thread = ThreadId {
        tgid: header.tgid,
        tid: header.tid,
    };
    let vm_name = |tgid| names.get(&tgid).cloned();
    // The programs have selected vCPUs.
    let mut no_thread_name = |_| String::new();
    let slot = usize::from(header.slot);
    attribution
        .attribute(slot, thread, record.raw, &vm_name, &mut no_thread_name)
        .is_some()
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsRawFd as _, path::PathBuf};

    use kvm_ebpf_common::THREAD_END_SLOT;

    use super::{
        super::super::queue::{channel, tests::batch_of},
        *,
    };
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
        Writer::new(recorder, None, &LiveOptions::default())
    }

    fn send(sender: &super::super::super::queue::Sender, events: usize) {
        sender.send_batch(QueuedBatch {
            read: RingRead {
                batch: batch_of(&vec![(0, 7, 8); events]),
                losses: Vec::new(),
            },
            names: NewNames::default(),
            complete_until_ns: 0,
        });
    }

    /// Each event is counted, whether it was written, buffered or queued when the write failed.
    #[test]
    fn events_are_counted_after_a_write_error() {
        let (reader, pipe) = rustix::pipe::pipe().unwrap();
        let mut writer = writer(format!("/proc/self/fd/{}", pipe.as_raw_fd()).into());
        drop(reader);
        let (sender, receiver) = channel(64 << 20);
        for _ in 0..20 {
            send(&sender, 1000);
        }
        assert!(!sender.is_closed());
        let sending = std::thread::spawn(move || {
            while !sender.is_closed() {
                std::thread::yield_now();
            }
            send(&sender, 500);
        });
        writer = writer.run(&receiver);
        sending.join().unwrap();
        let error = writer
            .write_error
            .expect("a write error: the pipe has no reader");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let buffered = writer.recorder.progress().events;
        assert!(writer.unwritten > 500, "{}", writer.unwritten);
        assert_eq!(buffered + writer.unwritten, 20_500);
    }

    /// A process ends with its main thread. The kernel may then reuse the process id for another VM.
    #[test]
    fn a_reused_process_id_is_selected_by_its_new_name() {
        let text = "name: kvm_fpu\nID: 7\nformat:\n\tfield:u32 load;\toffset:8;\tsize:4;\tsigned:0;\n\nprint fmt: \"%u\", REC->load\n";
        let format = Format::parse("kvm", text).unwrap();
        let selection = Selection {
            vms: vec![globset::Glob::new("web-*").unwrap().compile_matcher()],
            ..Selection::default()
        };
        let path = std::env::temp_dir().join(format!("reused-{}", std::process::id()));
        // The file gets no name, because nothing is written.
        let mut writer = writer(path);
        writer.attribution = Some(Attribution::new([Some(&format)], selection));
        let mut record = |records: &[(u16, u32, u32)], vm: &str| {
            let names = NewNames {
                vms: vec![(7, vm.into())],
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
            writer.record_batch(queued).unwrap();
            writer.recorder.progress().events
        };
        assert_eq!(record(&[(0, 7, 8), (0, 7, 8)], "db"), 0);
        let end = (THREAD_END_SLOT, 7, 7);
        assert_eq!(record(&[(0, 7, 8), end], "db"), 0);
        assert_eq!(record(&[(0, 7, 8), (0, 7, 8)], "web-1"), 2);
    }
}
