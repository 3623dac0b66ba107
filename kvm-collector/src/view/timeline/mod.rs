//! The timeline of a recording: events, exits and where each vCPU's time went, per interval (bin).
//!
//! The length of a recording is not known in advance. Bins are short at first. When there are more than
//! [`MAX_STORED_BINS`], they are merged. Their length is always 1 or 5 times a power of ten, so that the
//! bins of a report have a length of 1, 2 or 5 times a power of ten: a round number for readers.

mod report;

use std::collections::HashMap;

use kvm_ebpf_common::VCPU_UNKNOWN;

use crate::{
    model::{ExitEnd, ExitPart, Segment, StreamItem, VcpuId, VmName, pid_of},
    timing::{CompleteSegment, ExitAssembler, TimeSlice},
    view::exits::normalize_vcpu_id,
};
pub use report::{TimePart, TimelineReport, TimelineTrack};

/// Maximum number of bins of a report.
pub const MAX_BINS: usize = 600;

/// Maximum number of bins while a recording is read. A report merges pairs if there are more than
/// [`MAX_BINS`], so it has at least 240 bins if the recording has had enough.
const MAX_STORED_BINS: usize = 2 * MAX_BINS;

/// Initial length of a bin. 600 of them cover 6 ms.
const FIRST_BIN_NS: u64 = 10_000;

/// Maximum number of vCPUs with a track of their own. 128 tracks take 9 MB. All other vCPUs share one
/// more track.
const MAX_TRACKS: usize = 128;

/// Maximum number of vCPUs in the table of tracks.
const MAX_VCPUS: usize = 1 << 18;

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    exits: u64,
    parts_ns: [u64; 6],
}

#[derive(Debug)]
struct Track {
    vcpu_id: VcpuId,
    bins: Vec<Bin>,
}

/// Collects the events of a recording, and the segments of its vCPU threads that
/// [`Replay`](crate::timing::Replay) finds. Both must be added in time order.
#[derive(Debug)]
pub struct Timeline {
    /// Time of the first item.
    start_ns: Option<u64>,
    /// Time of the latest item.
    newest_ns: u64,
    /// Current length of a bin.
    bin_ns: u64,
    /// Number of events per bin.
    events: Vec<u64>,
    /// Number of lost events per bin.
    lost: Vec<u64>,
    assembler: ExitAssembler,
    /// The tracks. If there are more than [`MAX_TRACKS`], the last one is shared.
    tracks: Vec<Track>,
    track_indices: HashMap<VcpuId, usize>,
    /// Number of vCPUs that share the last track.
    merged_vcpus: usize,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            start_ns: None,
            newest_ns: 0,
            bin_ns: FIRST_BIN_NS,
            events: Vec::new(),
            lost: Vec::new(),
            assembler: ExitAssembler::default(),
            tracks: Vec::new(),
            track_indices: HashMap::new(),
            merged_vcpus: 0,
        }
    }
}

impl Timeline {
    /// Adds an item of the stream: counts events and losses.
    pub fn add_item(&mut self, item: &StreamItem<'_>) {
        match item {
            StreamItem::Event(event) => {
                let bin = self.extend_to(event.time_ns);
                add_to_bin(&mut self.events, bin, event.represented_events());
            }
            StreamItem::Lost { count, time_ns, .. } => {
                // The time of a loss may be earlier than the events before it.
                let bin = self.extend_to((*time_ns).max(self.newest_ns));
                add_to_bin(&mut self.lost, bin, *count);
            }
            StreamItem::RangeStart { start_ns } => {
                self.extend_to(*start_ns);
            }
            _ => {}
        }
    }

    /// Extends the timeline to the end of the recording, whose last events may not be selected.
    pub fn end_at(&mut self, end_ns: u64) {
        self.extend_to(end_ns);
    }

    /// Stores a segment before the requested range of a recording: it may be a part of an exit that ends
    /// later.
    pub fn skip_segment(&mut self, segment: &Segment) {
        self.assembler.add(segment, |_| ());
    }

    /// Adds a segment of a vCPU thread: counts exits, and adds times. Segments before the start of the
    /// timeline are left out.
    pub fn add_segment(&mut self, segment: &Segment) {
        let mut assembler = std::mem::take(&mut self.assembler);
        assembler.add(segment, |assembled| match assembled {
            CompleteSegment::Guest(guest) => {
                self.extend_to(guest.to_ns);
                let track = self.track_index(guest.vcpu_id);
                self.add_time(track, TimePart::Guest, guest.from_ns, guest.to_ns);
            }
            CompleteSegment::Exit(segment, exit, parts) => {
                let track = self.track_index(segment.vcpu_id);
                self.extend_to(segment.to_ns);
                let bin = self.bin_index(segment.from_ns);
                if self.start_ns.is_some_and(|it| it <= segment.from_ns)
                    && let Some(bin) = self.track_bin(track, bin)
                {
                    bin.exits += 1;
                }
                match exit.end {
                    ExitEnd::Entry => {
                        for slice in TimeSlice::split_exit(segment, exit, parts) {
                            let part = match slice.part {
                                None => TimePart::Kernel,
                                Some(ExitPart::Vmm) => TimePart::Vmm,
                                Some(ExitPart::Halted) => TimePart::Halted,
                                Some(ExitPart::Preempted) => TimePart::Preempted,
                            };
                            self.add_time(track, part, slice.from_ns, slice.to_ns);
                        }
                    }
                    ExitEnd::InProgress => {
                        self.add_time(track, TimePart::Open, segment.from_ns, segment.to_ns);
                    }
                    // The exit has no duration.
                    ExitEnd::UnknownEnd => {}
                }
            }
        });
        self.assembler = assembler;
    }

    /// Returns the timeline of everything that was added.
    #[must_use]
    pub fn report(mut self, vm_name: &dyn Fn(u32) -> VmName) -> TimelineReport {
        let end_ns = self.newest_ns;
        let elapsed_ns = end_ns.saturating_sub(self.start_ns.unwrap_or(end_ns));
        let mut bins = match self.start_ns {
            Some(_) => self.bin_index(end_ns) + 1,
            None => 0,
        };
        if bins > MAX_BINS {
            bins = bins.div_ceil(2);
            self.merge_bins(2);
        }
        let pad = |mut counts: Vec<u64>| {
            counts.resize(bins, 0);
            counts
        };
        let mut tracks: Vec<_> = self
            .tracks
            .iter_mut()
            .map(|track| {
                track.bins.resize(bins, Bin::default());
                let vcpu_id = track.vcpu_id;
                TimelineTrack {
                    vm: if vcpu_id.tgid == 0 {
                        String::new()
                    } else {
                        vm_name(vcpu_id.tgid).name
                    },
                    pid: pid_of(vcpu_id.tgid),
                    vcpu: (vcpu_id.vcpu != VCPU_UNKNOWN).then_some(vcpu_id.vcpu),
                    tid: vcpu_id.tid,
                    exits: track.bins.iter().map(|it| it.exits).collect(),
                    parts_ns: TimePart::ALL.map(|part| {
                        let bins = track.bins.iter();
                        bins.map(|it| it.parts_ns[part as usize]).collect()
                    }),
                }
            })
            .collect();
        let key = |it: &TimelineTrack| (it.pid == 0, it.pid, it.vcpu.unwrap_or(u32::MAX), it.tid);
        tracks.sort_by_key(key);
        TimelineReport {
            start_ns: self.start_ns,
            elapsed_ns,
            bin_ns: self.bin_ns,
            bins,
            events: pad(self.events),
            lost: pad(self.lost),
            tracks,
            merged_vcpus: self.merged_vcpus,
        }
    }

    /// Extends the timeline to a time, and merges bins if necessary. Returns the bin of the time.
    fn extend_to(&mut self, time_ns: u64) -> usize {
        self.start_ns.get_or_insert(time_ns);
        self.newest_ns = self.newest_ns.max(time_ns);
        while self.bin_index(time_ns) >= MAX_STORED_BINS {
            let is_power_of_ten = self.bin_ns == 10_u64.pow(self.bin_ns.ilog10());
            self.merge_bins(if is_power_of_ten { 5 } else { 2 });
        }
        self.bin_index(time_ns)
    }

    /// Merges each group of `factor` bins into one.
    fn merge_bins(&mut self, factor: u32) {
        let add = |to: &mut u64, from: u64| *to = to.saturating_add(from);
        let group = factor as usize;
        merge_groups(&mut self.events, group, add);
        merge_groups(&mut self.lost, group, add);
        for track in &mut self.tracks {
            merge_groups(&mut track.bins, group, |to, from| {
                to.exits += from.exits;
                for (to, from) in to.parts_ns.iter_mut().zip(from.parts_ns) {
                    add(to, from);
                }
            });
        }
        self.bin_ns = self.bin_ns.saturating_mul(factor.into());
    }

    fn bin_index(&self, time_ns: u64) -> usize {
        let offset_ns = time_ns.saturating_sub(self.start_ns.unwrap_or(time_ns));
        usize::try_from(offset_ns / self.bin_ns).unwrap_or(usize::MAX)
    }

    /// Returns the index of a vCPU's track, and creates the track if necessary.
    fn track_index(&mut self, vcpu_id: VcpuId) -> usize {
        let vcpu_id = normalize_vcpu_id(vcpu_id);
        if let Some(track) = self.track_indices.get(&vcpu_id) {
            return *track;
        }
        let is_full = self.tracks.len() >= MAX_TRACKS;
        if is_full {
            self.merged_vcpus += 1;
        }
        let track_id = if is_full { VcpuId::default() } else { vcpu_id };
        let track = if self.tracks.len() > MAX_TRACKS {
            MAX_TRACKS
        } else {
            self.tracks.push(Track {
                vcpu_id: track_id,
                bins: Vec::new(),
            });
            self.tracks.len() - 1
        };
        if self.track_indices.len() < MAX_VCPUS {
            self.track_indices.insert(vcpu_id, track);
        }
        track
    }

    /// Returns a bin of a track, and creates the bin if necessary.
    fn track_bin(&mut self, track: usize, bin: usize) -> Option<&mut Bin> {
        let bins = &mut self.tracks.get_mut(track)?.bins;
        if bins.len() <= bin {
            bins.resize(bin + 1, Bin::default());
        }
        bins.get_mut(bin)
    }

    /// Adds an interval to all bins that it overlaps. The timeline must already extend to its end.
    fn add_time(&mut self, track: usize, part: TimePart, from_ns: u64, to_ns: u64) {
        let Some(start_ns) = self.start_ns else {
            return;
        };
        let mut from_ns = from_ns.max(start_ns);
        while from_ns < to_ns {
            let bin = self.bin_index(from_ns);
            let bin_end_ns = (bin as u64 + 1)
                .saturating_mul(self.bin_ns)
                .saturating_add(start_ns);
            let until_ns = to_ns.min(bin_end_ns);
            if let Some(bin) = self.track_bin(track, bin) {
                let range_ns = &mut bin.parts_ns[part as usize];
                *range_ns = range_ns.saturating_add(until_ns - from_ns);
            }
            if until_ns == from_ns {
                return;
            }
            from_ns = until_ns;
        }
    }
}

/// Adds to a bin, and creates the bin if necessary.
fn add_to_bin(bins: &mut Vec<u64>, bin: usize, number: u64) {
    if bins.len() <= bin {
        bins.resize(bin + 1, 0);
    }
    bins[bin] = bins[bin].saturating_add(number);
}

/// Merges each group of `factor` bins into one.
fn merge_groups<T: Copy>(bins: &mut Vec<T>, factor: usize, merge: impl Fn(&mut T, T)) {
    let merged = bins.len().div_ceil(factor);
    for index in 0..merged {
        let first = index * factor;
        let mut bin = bins[first];
        for next in bins.iter().take(first + factor).skip(first + 1) {
            merge(&mut bin, *next);
        }
        bins[index] = bin;
    }
    bins.truncate(merged);
}

#[cfg(test)]
mod tests;
