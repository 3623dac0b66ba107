//! From batches of the ring to files.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
};

use super::{
    abi::{RECORD_HEADER, record},
    compress::Compressor,
    encode::{Encoded, Encoder, encoded_bytes},
    file::{self, OutFile},
    head::{Head, HostFacts, RecordedEvent, put_header},
};
use crate::model::{Batch, Record, Thread};

/// Written when so much has come together, or when told to.
const WRITE_BYTES: usize = 256 << 10;

/// Events this far apart are in order, whichever CPUs they are from: see `FINISHED_ROUND` in the kernel's tools/perf.
const ROUND_NS: u64 = 100_000_000;

/// What a file needs besides its records: names of new threads, and its end.
const FILE_SLACK: u64 = 64 << 10;

/// The memory of the flight recorder is let go in so many parts.
const SEGMENTS: u64 = 16;

/// How to record.
#[derive(Debug, Clone, Default)]
pub struct RecorderOptions {
    /// Where to; none is standard output.
    pub path: Option<PathBuf>,
    /// Compress, at this level.
    pub zstd: Option<i32>,
    /// A file is at most this long.
    pub max_bytes: Option<u64>,
    /// Go on in a new file when one is full, and keep so many.
    pub keep: Option<usize>,
    /// Keep what was last in memory, and write it when told to.
    pub flight: Option<Flight>,
}

/// What the flight recorder keeps.
#[derive(Debug, Clone)]
pub struct Flight {
    /// This long.
    pub window_ns: u64,
    /// This much at most.
    pub memory_bytes: u64,
}

/// What happened to what was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in, or will be.
    In,
    /// The file is full, and there is to be no other: recording is over.
    Full,
    /// The flight recorder has written a file.
    Dumped,
}

/// What has been recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Events in files that are there.
    pub events: u64,
    /// Bytes of those files.
    pub bytes: u64,
    /// Files written.
    pub files: u64,
    /// Events too long for a record, and those that no room was for when the disk was full.
    pub left_out: u64,
}

/// Writes recordings.
#[derive(Debug)]
pub struct Recorder {
    options: RecorderOptions,
    head: Head,
    encoder: Encoder,
    compressor: Option<Compressor>,
    file: Option<OutFile>,
    /// Records not written yet.
    out: Vec<u8>,
    out_stats: Encoded,
    compressed: Vec<u8>,
    /// The newest event when the last round ended, and now.
    round_ns: u64,
    newest_ns: u64,
    segments: VecDeque<Segment>,
    /// The trigger has fired since the flight recorder wrote, which it did when the newest event was this.
    fired: bool,
    dumped_ns: Option<u64>,
    done: Recorded,
    /// Writing has failed. Nothing more goes into the file: a compressed one would make no sense with a part left out.
    failed: bool,
}

/// A part of the flight recorder's memory.
#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    stats: Encoded,
}

impl Recorder {
    /// Creates the file, unless it is the flight recorder's.
    ///
    /// # Errors
    /// When the file cannot be created or written.
    pub fn new(
        options: RecorderOptions,
        events: &[RecordedEvent],
        facts: &HostFacts,
    ) -> io::Result<Self> {
        let head = Head::new(events, facts, options.zstd);
        let compressor = options.zstd.map(Compressor::new).transpose()?;
        let mut recorder = Self {
            options,
            head,
            encoder: Encoder::default(),
            compressor,
            file: None,
            out: Vec::with_capacity(4 * WRITE_BYTES),
            out_stats: Encoded::default(),
            compressed: Vec::new(),
            round_ns: 0,
            newest_ns: 0,
            segments: VecDeque::new(),
            fired: false,
            dumped_ns: None,
            done: Recorded::default(),
            failed: false,
        };
        if let Some(path) = &recorder.options.path {
            file::keep_old(path)?;
        }
        if recorder.options.flight.is_none() {
            recorder.file = Some(recorder.create()?);
        }
        Ok(recorder)
    }

    fn create(&mut self) -> io::Result<OutFile> {
        self.encoder.threads().new_file();
        if let Some(compressor) = &mut self.compressor {
            compressor.restart()?;
        }
        match &self.options.path {
            Some(path) => OutFile::create(path, &self.head),
            None => OutFile::stdout(&self.head),
        }
    }

    /// Takes in a batch of the rings.
    ///
    /// # Errors
    /// When a file cannot be written; what was written before can still be finished.
    pub fn take_in(&mut self, batch: &Batch) -> io::Result<Taken> {
        self.take_in_selected(batch, |_| true)
    }

    /// Takes in a batch of the rings, as far as its records are selected.
    ///
    /// # Errors
    /// When a file cannot be written; what was written before can still be finished.
    pub fn take_in_selected(
        &mut self,
        batch: &Batch,
        mut is_selected: impl FnMut(&Record<'_>) -> bool,
    ) -> io::Result<Taken> {
        if let Some(max_bytes) = self.options.max_bytes
            && let Some(file) = &self.file
        {
            let coming = self.out.len() as u64 + encoded_bytes(batch) + FILE_SLACK;
            if file.end().0 + coming > max_bytes {
                let Some(keep) = self.options.keep else {
                    return Ok(Taken::Full);
                };
                self.next_file(keep)?;
            }
        }
        let newest_ns = &mut self.newest_ns;
        self.encoder.batch(batch, &mut self.out, |record| {
            *newest_ns = record.header.time_ns.max(*newest_ns);
            is_selected(record)
        });
        self.out_stats.join(self.encoder.take_stats());
        self.end_round();
        if self.options.flight.is_some() {
            self.keep_segment();
            if self.fired && self.may_dump() {
                self.dump()?;
                return Ok(Taken::Dumped);
            }
        } else if self.out.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(Taken::In)
    }

    /// The flight recorder is to write, as soon as it may: see [`Recorder::dump`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn fire(&mut self) -> io::Result<Taken> {
        self.fired = true;
        if !self.may_dump() {
            return Ok(Taken::In);
        }
        self.dump()?;
        Ok(Taken::Dumped)
    }

    /// Learns the name of a thread, before the batch with its first event is taken in.
    pub fn learn_thread(&mut self, thread: Thread, name: String) {
        self.encoder.threads().learn_thread(thread, name);
    }

    /// Learns the name of a VM, by its process, before the batch with its first event is taken in.
    pub fn learn_vm(&mut self, tgid: u32, name: String) {
        self.encoder.threads().learn_vm(tgid, name);
    }

    /// Takes in that events were lost: of one event, or of any.
    pub fn lost(&mut self, event: Option<usize>, lost: u64, time_ns: u64) {
        Encoder::lost(event, lost, time_ns, &mut self.out);
    }

    /// Marks that events of a CPU were lost some time between two times, so that nothing is taken to reach across. How
    /// many and which is said separately, by [`Recorder::lost`].
    pub fn lost_between(&mut self, cpu: u32, from_ns: u64, to_ns: u64) {
        Encoder::lost_between(cpu, from_ns, to_ns, &mut self.out);
    }

    /// Writes what has come together. To be called at least once a second: it is what a sudden end may cost.
    ///
    /// # Errors
    /// When the file cannot be written; what was written before can still be finished.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            self.write()?;
        }
        Ok(())
    }

    fn end_round(&mut self) {
        if self.newest_ns.saturating_sub(self.round_ns) >= ROUND_NS {
            self.round_ns = self.newest_ns;
            put_header(&mut self.out, record::FINISHED_ROUND, 0, RECORD_HEADER);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if self.out.is_empty() || self.failed {
            return Ok(());
        }
        // Unless all goes well.
        self.failed = true;
        let records = match &mut self.compressor {
            Some(compressor) => {
                self.compressed.clear();
                compressor.compress(&self.out, &mut self.compressed)?;
                &self.compressed
            }
            None => &self.out,
        };
        file.append(&[records], self.out_stats)?;
        self.failed = false;
        self.out.clear();
        self.out_stats = Encoded::default();
        Ok(())
    }

    fn next_file(&mut self, keep: usize) -> io::Result<()> {
        self.write()?;
        self.finish_file()?;
        if let Some(path) = &self.options.path {
            file::rotate(path, keep)?;
        }
        self.file = Some(self.create()?);
        Ok(())
    }

    fn finish_file(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            let names = self.encoder.threads().vm_names();
            let (_, before) = file.end();
            let (bytes, stats) = file.finish(&self.head, &names)?;
            self.done.left_out += before.events - stats.events;
            self.done.left_out += stats.too_long;
            self.done.events += stats.events;
            self.done.bytes += bytes;
            self.done.files += 1;
        }
        Ok(())
    }

    /// Keeps what has come, and lets go of what is too old or too much.
    fn keep_segment(&mut self) {
        let Some(flight) = &self.options.flight else {
            return;
        };
        let stats = self.out_stats;
        let long_enough =
            stats.last_ns.saturating_sub(stats.first_ns) >= flight.window_ns / SEGMENTS;
        if self.out.len() as u64 >= flight.memory_bytes / SEGMENTS || long_enough {
            self.segments.push_back(Segment {
                bytes: std::mem::replace(&mut self.out, Vec::with_capacity(4 * WRITE_BYTES)),
                stats,
            });
            self.out_stats = Encoded::default();
        }
        let oldest_ns = self.newest_ns.saturating_sub(flight.window_ns);
        let mut held: u64 = self.segments.iter().map(|it| it.bytes.len() as u64).sum();
        while let Some(first) = self.segments.front() {
            if first.stats.last_ns >= oldest_ns && held <= flight.memory_bytes {
                break;
            }
            held -= first.bytes.len() as u64;
            self.segments.pop_front();
        }
        let first_ns = self
            .segments
            .front()
            .map_or(stats.first_ns, |it| it.stats.first_ns);
        self.encoder.threads().forget_before(first_ns);
    }

    /// Not more often than twice in its time: what fires in between is written then, with at least half of the time before it.
    fn may_dump(&self) -> bool {
        let half_ns = self
            .options
            .flight
            .as_ref()
            .map_or(0, |it| it.window_ns / 2);
        self.dumped_ns
            .is_none_or(|it| self.newest_ns.saturating_sub(it) >= half_ns)
    }

    /// Writes what the flight recorder has kept to a file. It stays in memory: an exit may have begun before this and end later.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn dump(&mut self) -> io::Result<()> {
        self.segments.push_back(Segment {
            bytes: std::mem::take(&mut self.out),
            stats: std::mem::take(&mut self.out_stats),
        });
        self.fired = false;
        self.dumped_ns = Some(self.newest_ns);
        let mut stats = Encoded::default();
        self.segments.iter().for_each(|it| stats.join(it.stats));
        let mut names = Vec::new();
        let before_ns = stats.first_ns.saturating_sub(1);
        self.encoder.threads().say_all(before_ns, &mut names);
        if let (Some(path), Some(keep)) = (&self.options.path, self.options.keep)
            && self.done.files > 0
        {
            file::rotate(path, keep)?;
        }
        let mut file = self.create()?;
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
                // One after the other, so that a full disk keeps the first of them.
                file.append(&[&names], Encoded::default())?;
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
        self.finish_file()
    }

    /// Ends the recording: the file is finished and readable. Also after an error, with what was written before it.
    ///
    /// # Errors
    /// When the file cannot be finished.
    pub fn finish(mut self) -> io::Result<Recorded> {
        if self.fired {
            self.dump()?;
        }
        // If there is no room for it, it is left out.
        let written = self.write();
        if self.options.flight.is_none() {
            self.done.left_out += self.out_stats.events;
        }
        self.finish_file()?;
        match written {
            Err(error) if !file::is_full(&error) => Err(error),
            _ => Ok(self.done),
        }
    }

    /// What has been recorded up to now, what is not written yet included.
    #[must_use]
    pub fn progress(&self) -> Recorded {
        let (bytes, stats) = self
            .file
            .as_ref()
            .map_or_else(Default::default, OutFile::end);
        let mut now = self.done;
        now.events += stats.events + self.out_stats.events;
        now.bytes += bytes + self.out.len() as u64;
        for segment in &self.segments {
            now.events += segment.stats.events;
            now.bytes += segment.bytes.len() as u64;
        }
        now
    }
}
