//! Writes batches from the rings to files, or holds the latest ones in memory (flight recorder).

use std::{collections::VecDeque, io};

use super::{
    abi::{RECORD_HEADER, record},
    compress::Compressor,
    encode::{EncodedStats, Encoder, encoded_bytes},
    file::{PerfDataFile, is_disk_full},
    header::Header,
    host_facts::{HostFacts, RecordedEvent},
    options::{BatchOutcome, RecorderOptions, RecordingStats},
    record_writer::{put_loss_window, put_lost, put_record_header},
};
use crate::{
    model::{Batch, Record, ThreadId, VmName},
    output_file::{OutputFile, OutputPlace, Previous},
};

/// The number of pending bytes that causes a write.
const WRITE_THRESHOLD: usize = 256 << 10;

/// The minimum time between two `FINISHED_ROUND` records, which tell perf up to which time events can
/// be sorted. Batches of different CPUs are less than this out of order.
const ROUND_NS: u64 = 100_000_000;

/// Space in each file for what `encoded_bytes` does not count: names of new threads, and the tables at
/// the end.
const FILE_RESERVE: u64 = 64 << 10;

/// The flight recorder's memory is divided into about this many segments, and freed by segment.
const SEGMENT_COUNT: u64 = 16;

/// Writes recordings. Call [`Recorder::finish`] at the end.
#[derive(Debug)]
pub struct Recorder {
    options: RecorderOptions,
    header: Header,
    encoder: Encoder,
    compressor: Option<Compressor>,
    /// Where files are created. `None` is stdout.
    place: Option<OutputPlace>,
    file: Option<PerfDataFile>,
    /// Records that are not written yet.
    pending: Vec<u8>,
    pending_stats: EncodedStats,
    compressed: Vec<u8>,
    /// The value of `newest_ns` at the last `FINISHED_ROUND` record.
    last_round_ns: u64,
    /// Time of the newest event.
    newest_ns: u64,
    /// The flight recorder's events, except those that are pending.
    segments: VecDeque<MemorySegment>,
    /// Whether a dump was requested but is not due yet.
    is_dump_pending: bool,
    /// The value of `newest_ns` at the last dump.
    last_dump_ns: Option<u64>,
    /// Statistics of the files that are finished.
    finished: RecordingStats,
    /// Sizes of the finished files that exist, the oldest first.
    kept_file_bytes: VecDeque<u64>,
    /// Whether a write failed. Then nothing more is written, because a compressed stream with a gap
    /// cannot be decompressed.
    write_failed: bool,
}

/// A part of the flight recorder's memory.
#[derive(Debug)]
struct MemorySegment {
    bytes: Vec<u8>,
    stats: EncodedStats,
    /// Whether a file has these events already.
    is_written: bool,
}

impl Recorder {
    /// Creates the file. It gets its name with the first events, or with [`Recorder::flush`]; until then, a file that has this
    /// name already remains. The flight recorder creates its file later, but checks here that it can.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub fn new(
        options: RecorderOptions,
        events: &[RecordedEvent],
        facts: &HostFacts,
    ) -> io::Result<Self> {
        let path = options.path.as_deref();
        let place = path.map(OutputPlace::find).transpose()?;
        if let Some(place) = &place {
            place.check_previous(Previous::BackUp)?;
            place.check_previous(Previous::Rotate(options.max_files.unwrap_or(1)))?;
        }
        let header = Header::new(events, facts, options.zstd_level);
        let compressor = options.zstd_level.map(Compressor::new).transpose()?;
        let mut recorder = Self {
            options,
            header,
            encoder: Encoder::default(),
            compressor,
            place,
            file: None,
            pending: Vec::with_capacity(4 * WRITE_THRESHOLD),
            pending_stats: EncodedStats::default(),
            compressed: Vec::new(),
            last_round_ns: 0,
            newest_ns: 0,
            segments: VecDeque::new(),
            is_dump_pending: false,
            last_dump_ns: None,
            finished: RecordingStats::default(),
            kept_file_bytes: VecDeque::new(),
            write_failed: false,
        };
        if recorder.options.flight_recorder.is_none() {
            recorder.file = Some(recorder.create_file()?);
        } else if let Some(place) = &recorder.place {
            place.create_file()?;
        }
        Ok(recorder)
    }

    fn create_file(&mut self) -> io::Result<PerfDataFile> {
        self.encoder.threads().start_file();
        if let Some(compressor) = &mut self.compressor {
            compressor.restart()?;
        }
        let file = match &self.place {
            Some(place) => place.create_file()?,
            None => OutputFile::stdout()?,
        };
        PerfDataFile::start(file, &self.header)
    }

    /// Returns what happens to an existing file with the name of the next file.
    fn previous(&self) -> Previous {
        match (self.finished.files, self.options.max_files) {
            (0, _) => Previous::BackUp,
            (_, Some(max_files)) => Previous::Rotate(max_files),
            (_, None) => Previous::Replace,
        }
    }

    /// Records a batch from the rings.
    ///
    /// # Errors
    /// If the file cannot be written. Call [`Recorder::finish`] nevertheless, to make the part that is
    /// already written readable.
    pub fn record_batch(&mut self, batch: &Batch) -> io::Result<BatchOutcome> {
        self.record_selected(batch, |_| true)
    }

    /// Records those records of a batch for which `is_selected` returns true. The exits of threads are
    /// always recorded.
    ///
    /// # Errors
    /// See [`Recorder::record_batch`].
    pub fn record_selected(
        &mut self,
        batch: &Batch,
        mut is_selected: impl FnMut(&Record<'_>) -> bool,
    ) -> io::Result<BatchOutcome> {
        if let Some(max_bytes) = self.options.max_file_bytes
            && let Some(file) = &self.file
        {
            let unwritten = self.pending.len() as u64 + encoded_bytes(batch) + FILE_RESERVE;
            if file.position().0 + unwritten > max_bytes {
                if self.options.max_files.is_none() {
                    return Ok(BatchOutcome::FileFull);
                }
                self.start_next_file()?;
            }
        }
        let newest_ns = &mut self.newest_ns;
        self.encoder
            .encode_batch(batch, &mut self.pending, |record| {
                *newest_ns = record.header.time_ns.max(*newest_ns);
                is_selected(record)
            });
        self.pending_stats.merge(self.encoder.take_stats());
        self.finish_round();
        if self.options.flight_recorder.is_some() {
            self.rotate_segments();
            if self.is_dump_pending && self.is_dump_due() {
                self.write_dump()?;
                return Ok(BatchOutcome::DumpWritten);
            }
        } else if self.pending.len() >= WRITE_THRESHOLD {
            self.write_pending()?;
        }
        Ok(BatchOutcome::Stored)
    }

    /// Requests that the flight recorder writes its events to a file. It writes at once, or, if the
    /// last dump was too recent, with a later batch.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn trigger_dump(&mut self) -> io::Result<BatchOutcome> {
        self.is_dump_pending = true;
        if !self.is_dump_due() {
            return Ok(BatchOutcome::Stored);
        }
        self.write_dump()?;
        Ok(BatchOutcome::DumpWritten)
    }

    /// Sets the name of a thread. Must be called before the batch with the thread's first event is
    /// recorded.
    pub fn set_thread_name(&mut self, thread: ThreadId, name: String) {
        self.encoder.threads().set_thread_name(thread, name);
    }

    /// Sets the name of a VM, identified by the TGID of its process. Must be called before the batch
    /// with the VM's first event is recorded.
    pub fn set_vm_name(&mut self, tgid: u32, name: impl Into<VmName>) {
        self.encoder.threads().set_vm_name(tgid, name.into());
    }

    /// Records a number of lost events. `event` is the index of the event, or `None` if the lost events
    /// may be of any kind.
    pub fn record_loss(&mut self, event: Option<usize>, lost: u64, time_ns: u64) {
        put_lost(&mut self.pending, event, lost, time_ns);
    }

    /// Records that a CPU lost events at some time between `from_ns` and `to_ns`, so that readers do not
    /// compute durations across this window. [`Recorder::record_loss`] records the number of events.
    pub fn mark_loss_window(&mut self, cpu: u32, from_ns: u64, to_ns: u64) {
        put_loss_window(&mut self.pending, cpu, from_ns, to_ns);
    }

    /// Gives the file its name, and writes the pending records. If the recorder is killed, the records since the last call are
    /// lost, so call this at least once a second.
    ///
    /// # Errors
    /// See [`Recorder::record_batch`].
    pub fn flush(&mut self) -> io::Result<()> {
        let previous = self.previous();
        if let Some(file) = &mut self.file {
            file.publish(previous)?;
        }
        self.write_pending()
    }

    fn finish_round(&mut self) {
        if self.newest_ns.saturating_sub(self.last_round_ns) >= ROUND_NS {
            self.last_round_ns = self.newest_ns;
            put_record_header(&mut self.pending, record::FINISHED_ROUND, 0, RECORD_HEADER);
        }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let previous = self.previous();
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if self.pending.is_empty() || self.write_failed {
            return Ok(());
        }
        // Reset at the end if there is no error.
        self.write_failed = true;
        let records = match &mut self.compressor {
            Some(compressor) => {
                self.compressed.clear();
                compressor.compress(&self.pending, &mut self.compressed)?;
                &self.compressed
            }
            None => &self.pending,
        };
        file.publish(previous)?;
        file.append(&[records], self.pending_stats)?;
        self.write_failed = false;
        self.pending.clear();
        self.pending_stats = EncodedStats::default();
        Ok(())
    }

    fn start_next_file(&mut self) -> io::Result<()> {
        self.write_pending()?;
        self.finish_file()?;
        self.file = Some(self.create_file()?);
        self.flush()
    }

    fn finish_file(&mut self) -> io::Result<()> {
        let previous = self.previous();
        if let Some(mut file) = self.file.take() {
            let names = self.encoder.threads().vm_names();
            let (_, written) = file.position();
            // Finishing removes events if the disk is full.
            let (bytes, stats) = file.finish(&self.header, &names)?;
            file.publish(previous)?;
            self.finished.omitted_events += written.events - stats.events;
            self.finished.omitted_events += stats.oversized;
            self.finished.events += stats.events;
            self.finished.bytes += bytes;
            self.finished.files += 1;
            self.kept_file_bytes.push_back(bytes);
            while self.kept_file_bytes.len() > self.options.max_files.unwrap_or(usize::MAX).max(1) {
                self.kept_file_bytes.pop_front();
            }
            self.finished.kept_files = self.kept_file_bytes.len() as u64;
            self.finished.kept_bytes = self.kept_file_bytes.iter().sum();
        }
        Ok(())
    }

    /// Moves the pending records to a segment if there are enough, and removes the segments that exceed
    /// the flight recorder's limits.
    fn rotate_segments(&mut self) {
        let Some(flight) = &self.options.flight_recorder else {
            return;
        };
        let stats = self.pending_stats;
        let is_long =
            stats.last_ns.saturating_sub(stats.first_ns) >= flight.window_ns / SEGMENT_COUNT;
        let is_large = self.pending.len() as u64 >= flight.memory_bytes / SEGMENT_COUNT;
        if is_large || is_long {
            self.segments.push_back(MemorySegment {
                bytes: std::mem::replace(
                    &mut self.pending,
                    Vec::with_capacity(4 * WRITE_THRESHOLD),
                ),
                stats,
                is_written: false,
            });
            self.pending_stats = EncodedStats::default();
        }
        let oldest_ns = self.newest_ns.saturating_sub(flight.window_ns);
        let mut held_bytes: u64 = self.segments.iter().map(|it| it.bytes.len() as u64).sum();
        while let Some(first) = self.segments.front() {
            if first.stats.last_ns >= oldest_ns && held_bytes <= flight.memory_bytes {
                break;
            }
            held_bytes -= first.bytes.len() as u64;
            self.segments.pop_front();
        }
        let first_ns = self
            .segments
            .front()
            .map_or(stats.first_ns, |it| it.stats.first_ns);
        self.encoder.threads().remove_exited_before(first_ns);
    }

    /// Whether at least half a window has passed since the last dump. A trigger in between is dumped
    /// later, so the dump has at least half a window of events before that trigger.
    fn is_dump_due(&self) -> bool {
        let half_ns = self
            .options
            .flight_recorder
            .as_ref()
            .map_or(0, |it| it.window_ns / 2);
        self.last_dump_ns
            .is_none_or(|it| self.newest_ns.saturating_sub(it) >= half_ns)
    }

    /// Writes the flight recorder's events to a file. They also stay in memory, because the next dump
    /// may need the start of an exit that is still in progress.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_dump(&mut self) -> io::Result<()> {
        self.segments.push_back(MemorySegment {
            bytes: std::mem::take(&mut self.pending),
            stats: std::mem::take(&mut self.pending_stats),
            is_written: false,
        });
        self.is_dump_pending = false;
        self.last_dump_ns = Some(self.newest_ns);
        let mut stats = EncodedStats::default();
        self.segments.iter().for_each(|it| stats.merge(it.stats));
        self.finished.last_dump_ns = (stats.events > 0).then_some((stats.first_ns, stats.last_ns));
        let written = self.segments.iter().filter(|it| it.is_written);
        let repeated: u64 = written.map(|it| it.stats.events).sum();
        let mut names = Vec::new();
        let before_ns = stats.first_ns.saturating_sub(1);
        self.encoder.threads().put_all_names(before_ns, &mut names);
        let mut file = self.create_file()?;
        let parts = std::iter::once(&names).chain(self.segments.iter().map(|it| &it.bytes));
        match &mut self.compressor {
            Some(compressor) => {
                let mut compressed = Vec::new();
                for part in parts {
                    compressor.compress(part, &mut compressed)?;
                }
                file.append(&[&compressed], stats)?;
            }
            None => {
                // Write the segments one by one, so that the first ones are stored if the disk gets
                // full.
                file.append(&[&names], EncodedStats::default())?;
                for segment in &self.segments {
                    if let Err(error) = file.append(&[&segment.bytes], segment.stats) {
                        self.file = Some(file);
                        self.finish_file()?;
                        return Err(error);
                    }
                }
            }
        }
        self.file = Some(file);
        self.finish_file()?;
        self.finished.events = self.finished.events.saturating_sub(repeated);
        for segment in &mut self.segments {
            segment.is_written = true;
        }
        Ok(())
    }

    /// Writes the pending records and finishes the file. After an error, the file has the records that
    /// were written before it.
    ///
    /// # Errors
    /// If the file cannot be finished.
    pub fn finish(mut self) -> io::Result<RecordingStats> {
        if self.is_dump_pending {
            self.write_dump()?;
        }
        // If the disk is full, the pending events are omitted and the file is finished without them.
        let result = self.write_pending();
        if self.options.flight_recorder.is_none() {
            self.finished.omitted_events += self.pending_stats.events;
        }
        self.finish_file()?;
        match result {
            Err(error) if !is_disk_full(&error) => Err(error),
            _ => Ok(self.finished),
        }
    }

    /// Returns the current statistics, including records that are not written yet.
    #[must_use]
    pub fn progress(&self) -> RecordingStats {
        let (bytes, stats) = self
            .file
            .as_ref()
            .map_or_else(Default::default, PerfDataFile::position);
        let mut total = self.finished;
        total.events += stats.events + self.pending_stats.events;
        total.bytes += bytes + self.pending.len() as u64;
        for segment in self.segments.iter().filter(|it| !it.is_written) {
            total.events += segment.stats.events;
            total.bytes += segment.bytes.len() as u64;
        }
        total
    }
}
