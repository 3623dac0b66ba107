//! How a recording went on: events, exits and where each vCPU's time went, in a bounded number of bins.
//!
//! How long a recording is, is known when it is over. So bins begin short, and whenever time runs out of
//! them, each two become one: there are never more than [`MOST_BINS`], whatever is recorded.

mod report;

use std::collections::HashMap;

use kvm_ebpf_common::VCPU_UNKNOWN;

use crate::{
    model::{Event, Whose},
    tracefs::{Field, Format},
};
pub use report::{TimePart, TimelineReport, TimelineTrack};

/// More bins there never are.
pub const MOST_BINS: usize = 600;

/// So long is a bin at first. 600 of them are 38 ms.
const FIRST_BIN_NS: u64 = 1 << 16;

/// vCPUs that are told apart: 128 of them take 5 MB here. What others do is taken together.
const MOST_TRACKS: usize = 128;

/// Threads whose state is known at a time.
const MOST_THREADS: usize = 1 << 18;

/// The bits of `prev_state` that say that a thread waits for something, as in the kernel half.
const WAITS: u64 = 0xff;

/// What events of one format are.
#[derive(Debug, Clone)]
enum Meaning {
    Exit { vcpu: Option<Field> },
    Entry { vcpu: Option<Field> },
    User,
    Wakeup { ns: Option<Field> },
    Switch { state: Field, next: Field },
    Other,
}

impl Meaning {
    fn of(format: &Format) -> Self {
        let field = |name| format.field(name).cloned();
        match (format.system.as_str(), format.name.as_str()) {
            ("kvm", "kvm_exit") => Self::Exit {
                vcpu: field("vcpu_id"),
            },
            ("kvm", "kvm_entry") => Self::Entry {
                vcpu: field("vcpu_id"),
            },
            ("kvm", "kvm_userspace_exit") => Self::User,
            ("kvm", "kvm_vcpu_wakeup") => Self::Wakeup { ns: field("ns") },
            ("sched", "sched_switch") => match (field("prev_state"), field("next_pid")) {
                (Some(state), Some(next)) => Self::Switch { state, next },
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// Of one thread, since when it is where.
#[derive(Debug, Clone, Copy)]
struct Thread {
    track: usize,
    /// `None`: it is not known where, since it was not seen before or since events are missing.
    place: Option<TimePart>,
    since_ns: u64,
    /// It was switched out, and was ready.
    out_since_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    exits: u64,
    parts_ns: [u64; 6],
}

#[derive(Debug)]
struct Track {
    whose: Whose,
    bins: Vec<Bin>,
}

/// Takes the events of a recording in the order of their times.
#[derive(Debug)]
pub struct Timeline {
    meanings: Vec<Meaning>,
    began_ns: Option<u64>,
    newest_ns: u64,
    bin_ns: u64,
    events: Vec<u64>,
    lost: Vec<u64>,
    threads: HashMap<u32, Thread>,
    tracks: Vec<Track>,
    of_vcpu: HashMap<Whose, usize>,
    together: usize,
}

impl Timeline {
    /// Of events of these formats.
    #[must_use]
    pub fn new(formats: &[Format]) -> Self {
        Self {
            meanings: formats.iter().map(Meaning::of).collect(),
            began_ns: None,
            newest_ns: 0,
            bin_ns: FIRST_BIN_NS,
            events: Vec::new(),
            lost: Vec::new(),
            threads: HashMap::new(),
            tracks: Vec::new(),
            of_vcpu: HashMap::new(),
            together: 0,
        }
    }

    /// Takes an event.
    pub fn event(&mut self, event: &Event<'_>) {
        let bin = self.reach(event.time_ns);
        add(&mut self.events, bin, 1);
        let Some(meaning) = self.meanings.get(event.slot).cloned() else {
            return;
        };
        let number = |field: &Option<Field>| field.as_ref()?.read_u64(event.raw);
        match meaning {
            Meaning::Exit { vcpu } => {
                self.go(event, number(&vcpu), TimePart::Kernel, TimePart::Guest);
            }
            Meaning::Entry { vcpu } => {
                self.go(event, number(&vcpu), TimePart::Guest, TimePart::Kernel);
            }
            Meaning::User => self.step(event, |thread, now_ns| {
                thread.out_since_ns = None;
                // A return that was interrupted comes again: it is with the VMM since the first.
                (thread.place == Some(TimePart::Kernel)).then_some((now_ns, TimePart::Vmm))
            }),
            Meaning::Wakeup { ns } => {
                let halted_ns = number(&ns).unwrap_or(0);
                let mut halted_from_ns = None;
                self.step(event, |thread, now_ns| {
                    thread.out_since_ns = None;
                    let from_ns = now_ns.saturating_sub(halted_ns).max(thread.since_ns);
                    let is_out = matches!(thread.place, Some(TimePart::Kernel | TimePart::Vmm));
                    halted_from_ns = is_out.then_some(from_ns);
                    halted_from_ns.map(|from_ns| (from_ns, TimePart::Halted))
                });
                if halted_from_ns.is_some() {
                    self.step(event, |_, now_ns| Some((now_ns, TimePart::Kernel)));
                }
            }
            Meaning::Switch { state, next } => {
                let is_ready = state.read_u64(event.raw).is_some_and(|it| it & WAITS == 0);
                if let Some(thread) = self.threads.get_mut(&event.tid)
                    && is_ready
                    && matches!(thread.place, Some(TimePart::Kernel | TimePart::Vmm))
                {
                    thread.out_since_ns = Some(event.time_ns.max(thread.since_ns));
                }
                if let Some(next) = next.read_u64(event.raw)
                    && let Ok(tid) = u32::try_from(next)
                {
                    self.switched_in(tid, event);
                }
            }
            Meaning::Other => {}
        }
    }

    /// So many events are missing before this time; of this kind, where that is known.
    pub fn lost(&mut self, slot: Option<usize>, lost: u64, time_ns: u64) {
        // A place that says no time is that of the last event.
        let bin = self.reach(time_ns.max(self.newest_ns));
        add(&mut self.lost, bin, lost);
        let meaning = slot.and_then(|slot| self.meanings.get(slot));
        if !matches!(meaning, Some(Meaning::Other)) {
            // Which thread's is not known: of none it is known where it was.
            for thread in self.threads.values_mut() {
                thread.place = None;
                thread.out_since_ns = None;
            }
        }
    }

    /// All that was taken.
    #[must_use]
    pub fn report(mut self, vm_name: &dyn Fn(u32) -> String) -> TimelineReport {
        let end_ns = self.newest_ns;
        let threads: Vec<_> = self.threads.drain().map(|it| it.1).collect();
        for thread in threads {
            if let Some(place) = thread.place {
                let part = match place {
                    TimePart::Guest => TimePart::Guest,
                    _ => TimePart::Open,
                };
                self.spend(thread.track, part, thread.since_ns, end_ns);
            }
        }
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
                let whose = track.whose;
                TimelineTrack {
                    vm: if whose.tgid == 0 {
                        String::new()
                    } else {
                        vm_name(whose.tgid)
                    },
                    pid: whose.tgid,
                    vcpu: (whose.vcpu != VCPU_UNKNOWN).then_some(whose.vcpu),
                    tid: whose.tid,
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
            merge(&mut self.events, |to, from| *to += from);
            merge(&mut self.lost, |to, from| *to += from);
            for track in &mut self.tracks {
                merge(&mut track.bins, |to, from| {
                    to.exits += from.exits;
                    for (to, from) in to.parts_ns.iter_mut().zip(from.parts_ns) {
                        *to += from;
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

    /// A thread enters the guest or leaves it; `from` is where it must have been for its time to count.
    fn go(&mut self, event: &Event<'_>, vcpu: Option<u64>, to: TimePart, from: TimePart) {
        let vcpu = vcpu.and_then(|it| u32::try_from(it).ok());
        let Some(mut thread) = self.thread(event, vcpu) else {
            return;
        };
        let now_ns = event.time_ns.max(thread.since_ns);
        let was_there = match thread.place {
            // Whatever is not the guest ends with an entry.
            Some(place) => (place == TimePart::Guest) == (from == TimePart::Guest),
            None => false,
        };
        if let (true, Some(place)) = (was_there, thread.place) {
            self.spend(thread.track, place, thread.since_ns, now_ns);
        }
        if to == TimePart::Kernel {
            let bin = self.bin(event.time_ns);
            if let Some(bin) = self.track_bin(thread.track, bin) {
                bin.exits += 1;
            }
        }
        thread.place = Some(to);
        thread.since_ns = now_ns;
        thread.out_since_ns = None;
        self.threads.insert(event.tid, thread);
    }

    /// A thread that is known is somewhere else, from a time on that `what` says.
    fn step(
        &mut self,
        event: &Event<'_>,
        what: impl FnOnce(&mut Thread, u64) -> Option<(u64, TimePart)>,
    ) {
        let Some(mut thread) = self.threads.get(&event.tid).copied() else {
            return;
        };
        let now_ns = event.time_ns.max(thread.since_ns);
        if let Some((from_ns, place)) = what(&mut thread, now_ns) {
            if let Some(before) = thread.place {
                self.spend(thread.track, before, thread.since_ns, from_ns);
            }
            thread.place = Some(place);
            thread.since_ns = from_ns;
        }
        self.threads.insert(event.tid, thread);
    }

    /// What comes before the switch stays where it was; also where that turns out to have been a halt,
    /// which is why this may show a bit less of it than `exits` does.
    fn switched_in(&mut self, tid: u32, event: &Event<'_>) {
        let Some(thread) = self.threads.get_mut(&tid) else {
            return;
        };
        let (Some(out_ns), Some(place)) = (thread.out_since_ns.take(), thread.place) else {
            return;
        };
        let now_ns = event.time_ns.max(out_ns);
        let (track, since_ns) = (thread.track, thread.since_ns);
        thread.since_ns = now_ns;
        self.spend(track, place, since_ns, out_ns);
        self.spend(track, TimePart::Preempted, out_ns, now_ns);
    }

    /// The thread of an event, on the track of its vCPU.
    fn thread(&mut self, event: &Event<'_>, vcpu: Option<u32>) -> Option<Thread> {
        let known = self.threads.get(&event.tid).copied();
        if known.is_none() && self.threads.len() >= MOST_THREADS {
            return None;
        }
        if let Some(thread) = known {
            let whose = self.tracks.get(thread.track).map(|it| it.whose)?;
            let same = whose.tgid == event.tgid && vcpu.is_none_or(|it| it == whose.vcpu);
            if same || whose.tgid == 0 {
                return Some(thread);
            }
        }
        let whose = Whose {
            tgid: event.tgid,
            vcpu: vcpu.unwrap_or(VCPU_UNKNOWN),
            tid: if vcpu.is_some() { 0 } else { event.tid },
        };
        let track = self.track(whose);
        Some(Thread {
            track,
            // As for the kernel half, it is another thread that has the same number.
            place: None,
            since_ns: event.time_ns,
            out_since_ns: None,
        })
    }

    fn track(&mut self, whose: Whose) -> usize {
        if let Some(track) = self.of_vcpu.get(&whose) {
            return *track;
        }
        let is_full = self.tracks.len() >= MOST_TRACKS;
        if is_full {
            self.together += 1;
        }
        let whose_track = if is_full { Whose::default() } else { whose };
        let track = if self.tracks.len() > MOST_TRACKS {
            MOST_TRACKS
        } else {
            self.tracks.push(Track {
                whose: whose_track,
                bins: Vec::new(),
            });
            self.tracks.len() - 1
        };
        // What is taken together needs no places of its own beyond the threads'.
        if self.of_vcpu.len() < MOST_THREADS {
            self.of_vcpu.insert(whose, track);
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
                bin.parts_ns[part as usize] += until_ns - from_ns;
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
