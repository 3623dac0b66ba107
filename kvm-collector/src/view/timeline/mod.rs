//! How a recording went on: events, exits and where each vCPU's time went, in a bounded number of bins.
//!
//! How long a recording is, is known when it is over. So bins begin short, and whenever time runs out of
//! them, each two become one: there are never more than [`MOST_BINS`], whatever is recorded.

mod report;

use std::collections::HashMap;

use kvm_ebpf_common::VCPU_UNKNOWN;

use crate::{
    model::{ExitEnd, ExitPart, Segment, StreamItem, VcpuId},
    timing::{CompleteSegment, ExitAssembler, TimeSlice},
};
pub use report::{TimePart, TimelineReport, TimelineTrack};

/// More bins there never are.
pub const MOST_BINS: usize = 600;

/// So long is a bin at first. 600 of them are 38 ms.
const FIRST_BIN_NS: u64 = 1 << 16;

/// vCPUs that have a track of their own: 128 of them take 5 MB here. The others share one.
const MOST_TRACKS: usize = 128;

/// vCPUs whose track is remembered.
const MOST_VCPUS: usize = 1 << 18;

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

/// Takes what is in a recording, in the order of time: its events, and the segments of its vCPU threads, as
/// [`Replay`](crate::timing::Replay) finds them.
#[derive(Debug)]
pub struct Timeline {
    began_ns: Option<u64>,
    newest_ns: u64,
    bin_ns: u64,
    events: Vec<u64>,
    lost: Vec<u64>,
    assembler: ExitAssembler,
    tracks: Vec<Track>,
    of_vcpu: HashMap<VcpuId, usize>,
    together: usize,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            began_ns: None,
            newest_ns: 0,
            bin_ns: FIRST_BIN_NS,
            events: Vec::new(),
            lost: Vec::new(),
            assembler: ExitAssembler::default(),
            tracks: Vec::new(),
            of_vcpu: HashMap::new(),
            together: 0,
        }
    }
}

impl Timeline {
    /// Takes the next item: events and losses have bins of their own.
    pub fn take(&mut self, item: &StreamItem<'_>) {
        match item {
            StreamItem::Event(event) => {
                let bin = self.reach(event.time_ns);
                add(&mut self.events, bin, event.represented_events());
            }
            StreamItem::Lost { count, time_ns, .. } => {
                // A loss from before the first event is in the first bin.
                let bin = self.reach((*time_ns).max(self.newest_ns));
                add(&mut self.lost, bin, *count);
            }
            _ => {}
        }
    }

    /// Takes a segment.
    pub fn segment(&mut self, segment: &Segment) {
        let mut assembler = std::mem::take(&mut self.assembler);
        assembler.add(segment, |assembled| match assembled {
            CompleteSegment::Guest(guest) => {
                self.reach(guest.to_ns);
                let track = self.track(guest.vcpu_id);
                self.spend(track, TimePart::Guest, guest.from_ns, guest.to_ns);
            }
            CompleteSegment::Exit(segment, exit, parts) => {
                let track = self.track(segment.vcpu_id);
                self.reach(segment.to_ns);
                let bin = self.bin(segment.from_ns);
                if let Some(bin) = self.track_bin(track, bin) {
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
                            self.spend(track, part, slice.from_ns, slice.to_ns);
                        }
                    }
                    ExitEnd::InProgress => {
                        self.spend(track, TimePart::Open, segment.from_ns, segment.to_ns);
                    }
                    // It has no time.
                    ExitEnd::UnknownEnd => {}
                }
            }
        });
        self.assembler = assembler;
    }

    /// All that was taken.
    #[must_use]
    pub fn report(mut self, vm_name: &dyn Fn(u32) -> String) -> TimelineReport {
        let end_ns = self.newest_ns;
        let elapsed_ns = end_ns.saturating_sub(self.began_ns.unwrap_or(end_ns));
        let bins = match self.began_ns {
            Some(_) => self.bin(end_ns) + 1,
            None => 0,
        };
        let whole = |mut it: Vec<u64>| {
            it.resize(bins, 0);
            it
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
                        vm_name(vcpu_id.tgid)
                    },
                    pid: vcpu_id.tgid,
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
            elapsed_ns,
            bin_ns: self.bin_ns,
            bins,
            events: whole(self.events),
            lost: whole(self.lost),
            tracks,
            together: self.together,
        }
    }

    /// The bin of a time, after bins were made long enough for it.
    fn reach(&mut self, time_ns: u64) -> usize {
        self.began_ns.get_or_insert(time_ns);
        self.newest_ns = self.newest_ns.max(time_ns);
        while self.bin(time_ns) >= MOST_BINS {
            merge(&mut self.events, |to, from| *to = to.saturating_add(from));
            merge(&mut self.lost, |to, from| *to = to.saturating_add(from));
            for track in &mut self.tracks {
                merge(&mut track.bins, |to, from| {
                    to.exits += from.exits;
                    for (to, from) in to.parts_ns.iter_mut().zip(from.parts_ns) {
                        *to = to.saturating_add(from);
                    }
                });
            }
            self.bin_ns = self.bin_ns.saturating_mul(2);
        }
        self.bin(time_ns)
    }

    fn bin(&self, time_ns: u64) -> usize {
        let after_ns = time_ns.saturating_sub(self.began_ns.unwrap_or(time_ns));
        usize::try_from(after_ns / self.bin_ns).unwrap_or(usize::MAX)
    }

    /// The track of a vCPU, which goes by its index where that is known.
    fn track(&mut self, vcpu_id: VcpuId) -> usize {
        let vcpu_id = VcpuId {
            tid: if vcpu_id.vcpu == VCPU_UNKNOWN {
                vcpu_id.tid
            } else {
                0
            },
            ..vcpu_id
        };
        if let Some(track) = self.of_vcpu.get(&vcpu_id) {
            return *track;
        }
        let is_full = self.tracks.len() >= MOST_TRACKS;
        if is_full {
            self.together += 1;
        }
        let track_id = if is_full { VcpuId::default() } else { vcpu_id };
        let track = if self.tracks.len() > MOST_TRACKS {
            MOST_TRACKS
        } else {
            self.tracks.push(Track {
                vcpu_id: track_id,
                bins: Vec::new(),
            });
            self.tracks.len() - 1
        };
        if self.of_vcpu.len() < MOST_VCPUS {
            self.of_vcpu.insert(vcpu_id, track);
        }
        track
    }

    fn track_bin(&mut self, track: usize, bin: usize) -> Option<&mut Bin> {
        let bins = &mut self.tracks.get_mut(track)?.bins;
        if bins.len() <= bin {
            bins.resize(bin + 1, Bin::default());
        }
        bins.get_mut(bin)
    }

    /// Spreads a time over the bins it reaches across. None ends after the newest event, so each has its bin.
    fn spend(&mut self, track: usize, part: TimePart, from_ns: u64, to_ns: u64) {
        let Some(began_ns) = self.began_ns else {
            return;
        };
        let mut from_ns = from_ns.max(began_ns);
        while from_ns < to_ns {
            let bin = self.bin(from_ns);
            let bin_end_ns = (bin as u64 + 1)
                .saturating_mul(self.bin_ns)
                .saturating_add(began_ns);
            let until_ns = to_ns.min(bin_end_ns);
            if let Some(bin) = self.track_bin(track, bin) {
                let spent_ns = &mut bin.parts_ns[part as usize];
                *spent_ns = spent_ns.saturating_add(until_ns - from_ns);
            }
            if until_ns == from_ns {
                return;
            }
            from_ns = until_ns;
        }
    }
}

/// Adds to a bin that may not be there yet.
fn add(bins: &mut Vec<u64>, bin: usize, number: u64) {
    if bins.len() <= bin {
        bins.resize(bin + 1, 0);
    }
    bins[bin] = bins[bin].saturating_add(number);
}

/// Makes one bin of each two.
fn merge<T: Copy>(bins: &mut Vec<T>, into: impl Fn(&mut T, T)) {
    let half = bins.len().div_ceil(2);
    for index in 0..half {
        let mut bin = bins[2 * index];
        if let Some(next) = bins.get(2 * index + 1) {
            into(&mut bin, *next);
        }
        bins[index] = bin;
    }
    bins.truncate(half);
}

#[cfg(test)]
mod tests;
