//! Writes events of the running kernel to files.

mod dump_reporter;
mod writer;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    OverheadMeter, ProgressLine, Schedule, WakeReason,
    queue::{Update, channel},
    stream::{StreamReader, join_writer, spawn_writer},
};
use crate::{
    format::units::{mebibytes, plural},
    host::clock,
    recording::{Recorder, RecordingStats},
    source::Live,
    timing::ExitTrigger,
};
use writer::Writer;

/// A live recording.
#[derive(Debug)]
pub struct RecordSession {
    /// Source of the events.
    pub live: Live,
    /// Encodes events and writes the files.
    pub recorder: Recorder,
    /// Condition at which the flight recorder writes.
    pub trigger: Option<ExitTrigger>,
    /// Output path, for messages.
    pub output: PathBuf,
    /// The recorder is a flight recorder: SIGUSR1 and the trigger make it write.
    pub is_flight_recorder: bool,
    /// Maximum memory of queued events, in bytes.
    pub queue_bytes: usize,
    /// Print no progress and no messages on stderr.
    pub quiet: bool,
}

/// Result of a recording.
#[derive(Debug)]
pub struct RecordSummary {
    /// Number of events, bytes and files.
    pub recorded: RecordingStats,
    /// Events that are not in the files.
    pub lost: u64,
    /// The recording ended because the file reached its maximum size.
    pub is_file_full: bool,
    /// The error that ended the recording.
    pub write_error: Option<io::Error>,
}

impl RecordSession {
    /// Records until the schedule ends or the file is full. Prints `overhead` at the end.
    ///
    /// This thread reads the rings; another thread writes. See [`super::queue`].
    ///
    /// # Errors
    /// When the kernel cannot be read. A write error is in the summary, together with the number of events
    /// that were written before it.
    pub async fn run(
        mut self,
        schedule: &mut Schedule,
        overhead: Option<&OverheadMeter>,
    ) -> anyhow::Result<RecordSummary> {
        let mut progress = ProgressLine::new(self.quiet);
        let mut live = self.live;
        schedule.watch_threads(&mut live)?;
        // From here on, nothing is refused any more, and an older file with this name can be replaced.
        let begun = self.recorder.flush();
        begun.with_context(|| format!("cannot write to {}", self.output.display()))?;
        let (sender, receiver) = channel(self.queue_bytes);
        let recorded = Arc::new(Mutex::new(RecordingStats::default()));
        let is_ordered = self.trigger.is_some();
        let mut writer = Writer::new(self.recorder, self.trigger, live.options());
        writer.recorded = Arc::clone(&recorded);
        writer.dumps.output.clone_from(&self.output);
        writer.dumps.quiet = self.quiet;
        let mut usr1 = signal(SignalKind::user_defined1())?;
        let mut reader = StreamReader::new(&mut live, sender, is_ordered, true)?;
        let writing = spawn_writer(move || writer.run(&receiver))?;
        while !reader.is_closed() {
            tokio::select! {
                biased;
                reason = schedule.next() => match reason? {
                    WakeReason::End => break,
                    WakeReason::ThreadNotifications => reader.handle_notifications()?,
                    WakeReason::Refresh | WakeReason::Interval => {
                        let lost = reader.refresh(true)?;
                        let recorded = *recorded.lock().unwrap_or_else(PoisonError::into_inner);
                        progress.show(|elapsed| {
                            let RecordingStats { events, bytes, .. } = recorded;
                            let (seconds, size) = (elapsed.as_secs(), mebibytes(bytes));
                            Ok::<_, anyhow::Error>(format!(
                                "{seconds} s, {}, {size}, {lost} lost",
                                plural(events, "event")
                            ))
                        })?;
                    }
                },
                _ = usr1.recv() => reader.send_update(Update {
                    dump: self.is_flight_recorder,
                    flush: !self.is_flight_recorder,
                    ..Update::default()
                }),
                () = reader.ready() => {}
            }
            reader.read()?;
        }
        let counts = reader.finish().await?;
        let mut writer = join_writer(writing)?;
        writer.record_losses(&counts.events, clock::monotonic_ns());
        // Events without a record, of which it is not known which ones they were.
        let unknown =
            counts.loss.missed.unwrap_or(0) + counts.loss.unattributed + writer.unattributed;
        if unknown > 0 {
            writer.recorder.record_loss(None, unknown, counts.time_ns);
        }
        progress.erase();
        let files = writer.recorder.progress().files;
        let recorded = writer
            .recorder
            .finish()
            .with_context(|| format!("cannot finish {}", self.output.display()))?;
        if self.is_flight_recorder && recorded.files > files {
            // A dump that was not due before.
            writer.dumps.report(&writer.vm_names, recorded.last_dump_ns);
        }
        let lost = counts.loss.lost + unknown + recorded.omitted_events + writer.unwritten;
        if let Some(overhead) = overhead {
            overhead.print(&live)?;
        }
        Ok(RecordSummary {
            recorded,
            lost,
            is_file_full: writer.is_file_full,
            write_error: writer.write_error,
        })
    }
}
