//! The same once more, without a clock that goes along: with all of the stream at hand, what lies where
//! is found out by looking, and times are lengths of sets of intervals.

use std::collections::BTreeMap;

use kvm_collector::model::VcpuId;
use kvm_ebpf_common::{GUEST_RIP_KIND, Key, VCPU_UNKNOWN};

use crate::stream::{Event, Mode, What};

/// What is known of one key of a thread.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) open: u64,
    pub(crate) untimed: u64,
    pub(crate) vmm_ns: u64,
    pub(crate) halted_ns: u64,
    pub(crate) preempted_ns: u64,
    /// Each time, and since the reading before.
    pub(crate) times_ns: Vec<u64>,
    pub(crate) recent_ns: Vec<u64>,
    pub(crate) causes: BTreeMap<Key, u64>,
}

/// What is to be read.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) sums: BTreeMap<(VcpuId, Key), Sum>,
    pub(crate) guest_ns: BTreeMap<VcpuId, u64>,
    pub(crate) unmatched: u64,
    pub(crate) moved: u64,
    /// From each exit to the entry that ends it, all together.
    pub(crate) out_ns: u64,
}

/// An event, and where it stands in the stream.
type Seen = (usize, Event);

/// A thread from its first exit on, for as long as it runs one vCPU.
struct Life {
    tgid: u32,
    tid: u32,
    vcpu: Option<u32>,
    seen: Vec<Seen>,
    ended: Option<usize>,
    /// The thread ran another vCPU before, and entered this one then.
    entered: Option<Seen>,
    /// The thread runs another vCPU afterwards, and has entered that one already.
    is_left: bool,
}

/// How it ends to be out of the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Entry,
    /// Another exit, or it cannot be known.
    None,
    /// The end of what there is.
    Open,
}

struct Reader<'a> {
    events: &'a [Event],
    mode: Mode,
    now_ns: u64,
    /// Where the reading before stands.
    since: usize,
    /// When each life of a vCPU was last seen to enter or leave it.
    last_turns_ns: BTreeMap<(u32, u32), Vec<u64>>,
    /// Of the life that is read.
    vcpu: Option<(u32, u32)>,
    truth: Truth,
}

/// Reads a stream up to a reading, which comes after another one.
pub(crate) fn read(events: &[Event], mode: Mode, since: usize) -> Truth {
    let mut reader = Reader {
        events,
        mode,
        now_ns: events.iter().map(|it| it.time_ns).max().unwrap_or(0),
        since,
        last_turns_ns: BTreeMap::new(),
        vcpu: None,
        truth: Truth::default(),
    };
    let lives = lives(events, mode);
    for life in &lives {
        if let Some(vcpu) = life.vcpu {
            let last_ns = reader.last_turn_ns(life);
            let of_vcpu = reader.last_turns_ns.entry((life.tgid, vcpu));
            of_vcpu.or_default().push(last_ns);
        }
    }
    for life in &lives {
        reader.life(life);
    }
    reader.truth
}

fn lives(events: &[Event], mode: Mode) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        if matches!(event.what, What::Lost { .. } | What::Reading) {
            continue;
        }
        let of_tid = |life: &&mut Life| life.tid == event.tid && life.ended.is_none();
        let current = lives.iter_mut().find(of_tid);
        let vcpu = match event.what {
            What::Exit { vcpu, .. } => Some(vcpu),
            _ => None,
        };
        let begins = vcpu.is_some() || counted(mode, event).is_some() || is_skipped(mode, event);
        let mut is_same = false;
        let mut entered = None;
        if let Some(life) = current {
            let other_vcpu = vcpu.is_some() && life.vcpu.is_some() && life.vcpu != vcpu;
            let same_process = life.tgid == event.tgid || event.what == What::In;
            is_same = same_process && !other_vcpu;
            if is_same && event.what != What::End {
                life.vcpu = life.vcpu.or(vcpu);
                life.seen.push((at, *event));
            } else if begins || is_same {
                life.ended = Some(at);
                if same_process && other_vcpu {
                    entered = last_entry(events, life, (at, *event));
                    life.is_left = entered.is_some();
                }
            }
        }
        if begins && !is_same {
            lives.push(Life {
                tgid: event.tgid,
                tid: event.tid,
                vcpu,
                seen: vec![(at, *event)],
                ended: None,
                entered,
                is_left: false,
            });
        }
    }
    lives
}

/// The entry of a thread that is in the guest when it turns out, at an exit, that it runs another vCPU; unless events may
/// be missing in between.
fn last_entry(events: &[Event], life: &Life, (at, exit): Seen) -> Option<Seen> {
    let is_turn = |(_, it): &&Seen| matches!(it.what, What::Exit { .. } | What::Entry);
    let (entered, entry) = *life.seen.iter().rev().find(is_turn)?;
    if entry.what != What::Entry {
        return None;
    }
    // Step by step, as the thread was seen on its CPUs.
    let from = life.seen.iter().filter(|it| it.0 >= entered);
    let steps: Vec<_> = from.copied().chain([(at, exit)]).collect();
    let is_whole = steps.windows(2).all(|step| {
        let cpus = [step[0].1.cpu, step[1].1.cpu];
        !events[step[0].0..step[1].0].iter().any(|it| match it.what {
            What::Lost { everywhere } => everywhere || cpus.contains(&it.cpu),
            _ => false,
        })
    });
    is_whole.then_some((entered, entry))
}

/// The key that an event is counted under, if events of its kind are.
fn counted(mode: Mode, event: &Event) -> Option<Key> {
    let (code, class) = match (mode, event.what) {
        (Mode::Pio, What::Pio { port, rw }) => (port.into(), rw),
        (Mode::Mmio, What::Mmio { gpa, kind }) if kind != 0 => (gpa, kind),
        (Mode::Userspace, What::User { reason, errno }) => (reason.into(), errno.cast_unsigned()),
        _ => return None,
    };
    Some(Key {
        code,
        subcode: class,
        kind: 0,
    })
}

fn is_skipped(mode: Mode, event: &Event) -> bool {
    mode == Mode::Mmio && matches!(event.what, What::Mmio { kind: 0, .. })
}

impl Reader<'_> {
    fn life(&mut self, life: &Life) {
        let known = life.vcpu.is_some() && life.ended.is_some();
        let vcpu_id = VcpuId {
            tgid: life.tgid,
            vcpu: life.vcpu.unwrap_or(VCPU_UNKNOWN),
            tid: if known { 0 } else { life.tid },
        };
        if let (Some((_, entry)), Some((_, exit))) = (life.entered, life.seen.first()) {
            *self.truth.guest_ns.entry(vcpu_id).or_default() += exit.time_ns - entry.time_ns;
        }
        self.vcpu = life.vcpu.map(|vcpu| (life.tgid, vcpu));
        let end = life.ended.unwrap_or(self.events.len());
        let mut from = 0;
        for to in 1..=life.seen.len() {
            let (at, before) = life.seen[to - 1];
            let (next, cpus) = match life.seen.get(to) {
                Some((next, event)) => (*next, vec![before.cpu, event.cpu]),
                None => (end, vec![before.cpu]),
            };
            let is_cut = self.events[at..next].iter().any(|it| match it.what {
                What::Lost { everywhere } => everywhere || cpus.contains(&it.cpu),
                _ => false,
            });
            if is_cut || to == life.seen.len() {
                self.run(vcpu_id, &life.seen[from..to], is_cut, life.ended.is_none());
                from = to;
            }
        }
        self.truth.guest_ns.entry(vcpu_id).or_default();
    }

    /// A thread's events, of which none are lost as far as is known.
    fn run(&mut self, vcpu_id: VcpuId, seen: &[Seen], is_cut: bool, lives: bool) {
        let is_turn = |(_, it): &Seen| matches!(it.what, What::Exit { .. } | What::Entry);
        let mut turns: Vec<_> = (0..seen.len()).filter(|it| is_turn(&seen[*it])).collect();
        // Before the first one, nothing is known.
        self.apart(
            vcpu_id,
            &seen[..turns.first().copied().unwrap_or(seen.len())],
        );
        turns.push(seen.len());
        for turn in turns.windows(2) {
            let (from, to) = (turn[0], turn[1]);
            let next = seen.get(to).map(|(_, it)| *it);
            let out = matches!(seen[from].1.what, What::Exit { .. });
            let ending = match next.map(|it| it.what) {
                Some(What::Entry) => Ending::Entry,
                None if !is_cut => Ending::Open,
                _ => Ending::None,
            };
            if out {
                let (until, place) = match next {
                    Some(next) => (next.time_ns, seen[to].0),
                    None => (self.now_ns, self.events.len()),
                };
                self.out(vcpu_id, &seen[from..to], ending, until, place);
                continue;
            }
            self.apart(vcpu_id, &seen[from..to]);
            let guest_ns = self.truth.guest_ns.entry(vcpu_id).or_default();
            match next {
                Some(next) if matches!(next.what, What::Exit { .. }) => {
                    *guest_ns += next.time_ns - seen[from].1.time_ns;
                }
                None if !is_cut && lives => *guest_ns += self.now_ns - seen[from].1.time_ns,
                _ => {}
            }
        }
    }

    /// When a thread was last seen to enter or leave its vCPU, or at an event that began another span.
    fn last_turn_ns(&self, life: &Life) -> u64 {
        let (mut entered_ns, mut span_ns) = (life.entered.map_or(0, |it| it.1.time_ns), 0);
        let (mut is_out, mut has_key) = (false, false);
        let mut before: Option<Seen> = None;
        for seen in &life.seen {
            if before.is_some_and(|before| self.is_cut(&before, seen)) {
                (entered_ns, is_out) = (0, false);
            }
            before = Some(*seen);
            let event = &seen.1;
            match event.what {
                What::Exit { .. } => {
                    (entered_ns, span_ns, is_out) = (0, event.time_ns, true);
                    has_key = matches!(self.mode, Mode::Reason | Mode::Rip);
                }
                What::Entry => (entered_ns, is_out) = (event.time_ns, false),
                _ if is_out && counted(self.mode, event).is_some() => {
                    if has_key {
                        span_ns = event.time_ns;
                    }
                    has_key = true;
                }
                _ => {}
            }
        }
        let is_cut_at_end = before.is_some_and(|(at, event)| {
            self.events[at..life.ended.unwrap_or(self.events.len())]
                .iter()
                .any(|it| match it.what {
                    What::Lost { everywhere } => everywhere || it.cpu == event.cpu,
                    _ => false,
                })
        });
        if is_cut_at_end || life.is_left {
            entered_ns = 0;
        }
        entered_ns.max(span_ns)
    }

    fn is_cut(&self, from: &Seen, to: &Seen) -> bool {
        let cpus = [from.1.cpu, to.1.cpu];
        self.events[from.0..to.0].iter().any(|it| match it.what {
            What::Lost { everywhere } => everywhere || cpus.contains(&it.cpu),
            _ => false,
        })
    }

    /// Has another life of the vCPU been seen after a time?
    fn is_run_after(&self, time_ns: u64) -> bool {
        let of_vcpu = self.vcpu.and_then(|vcpu| self.last_turns_ns.get(&vcpu));
        of_vcpu.is_some_and(|all| all.iter().any(|it| *it > time_ns))
    }

    fn sum(&mut self, vcpu_id: VcpuId, key: Key) -> &mut Sum {
        self.truth.sums.entry((vcpu_id, key)).or_default()
    }

    /// Events while the thread is not known to be out.
    fn apart(&mut self, vcpu_id: VcpuId, seen: &[Seen]) {
        for (_, event) in seen {
            if let Some(key) = counted(self.mode, event) {
                self.sum(vcpu_id, key).untimed += 1;
            }
        }
    }

    /// From an exit to what ends it.
    fn out(&mut self, vcpu_id: VcpuId, seen: &[Seen], ending: Ending, until_ns: u64, place: usize) {
        let mut pieces = Vec::new();
        match (self.mode, seen[0].1.what) {
            (Mode::Reason | Mode::Rip, What::Exit { code, .. }) => {
                let key = Key {
                    code: code.into(),
                    subcode: 2,
                    kind: 0,
                };
                pieces.push((0, key));
            }
            _ => {
                for (index, (_, event)) in seen.iter().enumerate() {
                    if let Some(key) = counted(self.mode, event) {
                        pieces.push((index, key));
                    }
                }
            }
        }
        // The first one has the time since the exit.
        if let Some(first) = pieces.first_mut() {
            first.0 = 0;
        }
        if ending == Ending::Entry && !pieces.is_empty() {
            self.truth.out_ns += until_ns - seen[0].1.time_ns;
        }
        // Where one ends the next begins; that is where it stands among the events.
        let starts: Vec<_> = (pieces.iter().skip(1).map(|it| it.0)).collect();
        for (number, (from, key)) in pieces.iter().enumerate() {
            match starts.get(number) {
                Some(next) => {
                    let (place, event) = seen[*next];
                    self.timed(vcpu_id, *key, &seen[*from..*next], event.time_ns, place);
                }
                None if ending == Ending::Entry => {
                    self.timed(vcpu_id, *key, &seen[*from..], until_ns, place);
                }
                // Another thread, or this one again, runs the vCPU afterwards.
                None if ending == Ending::Open && self.is_run_after(seen[*from].1.time_ns) => {
                    self.truth.moved += 1;
                    self.sum(vcpu_id, *key).untimed += 1;
                }
                None if ending == Ending::Open => self.sum(vcpu_id, *key).open += 1,
                None => {
                    self.truth.unmatched += 1;
                    self.sum(vcpu_id, *key).untimed += 1;
                }
            }
        }
    }

    fn timed(&mut self, vcpu_id: VcpuId, key: Key, seen: &[Seen], end_ns: u64, place: usize) {
        let start_ns = seen[0].1.time_ns;
        let is_recent = place >= self.since;
        let cause = self.cause(seen);
        let parts = Parts::of(self.mode, seen, end_ns);
        let sum = self.sum(vcpu_id, key);
        sum.times_ns.push(end_ns - start_ns);
        if is_recent {
            sum.recent_ns.push(end_ns - start_ns);
        }
        sum.preempted_ns += length(&parts.preempted);
        sum.vmm_ns += length(&without(&parts.vmm, &parts.preempted));
        sum.halted_ns += length(&without(&parts.halted, &parts.preempted));
        if let Some(cause) = cause {
            *sum.causes.entry(cause).or_default() += 1;
        }
    }

    fn cause(&self, seen: &[Seen]) -> Option<Key> {
        let cause = |(_, event): &Seen| match (self.mode, event.what) {
            (Mode::Reason, What::Pio { port, rw }) => Some((port.into(), rw, 1)),
            (Mode::Reason, What::Mmio { gpa, kind }) if kind != 0 => Some((gpa, kind, 2)),
            (Mode::Rip, What::Exit { rip, .. }) => Some((rip, 0, GUEST_RIP_KIND)),
            _ => None,
        };
        let (code, class, kind) = seen.iter().rev().find_map(cause)?;
        Some(Key {
            code,
            subcode: class,
            kind,
        })
    }
}

type Interval = (u64, u64);

/// When a thread was what.
struct Parts {
    vmm: Vec<Interval>,
    halted: Vec<Interval>,
    preempted: Vec<Interval>,
}

impl Parts {
    fn of(mode: Mode, seen: &[Seen], end_ns: u64) -> Self {
        let start_ns = seen[0].1.time_ns;
        let mut parts = Self {
            vmm: Vec::new(),
            halted: Vec::new(),
            preempted: Vec::new(),
        };
        for (index, (_, event)) in seen.iter().enumerate() {
            match event.what {
                What::Wakeup { ns } => {
                    let began_ns = (event.time_ns - ns).max(start_ns);
                    parts.halted.push((began_ns, event.time_ns));
                }
                What::In if index > 0 && seen[index - 1].1.what == (What::Out { ready: true }) => {
                    let out_ns = seen[index - 1].1.time_ns;
                    parts.preempted.push((out_ns, event.time_ns));
                }
                What::User { .. } => {
                    // Until it is seen in the kernel: halting, or at what is counted.
                    let back = |(_, it): &Seen| match it.what {
                        What::Wakeup { ns } => Some((it.time_ns - ns).max(event.time_ns)),
                        _ => counted(mode, it).map(|_| it.time_ns),
                    };
                    let back_ns = seen[index + 1..].iter().find_map(back).unwrap_or(end_ns);
                    parts.vmm.push((event.time_ns, back_ns));
                }
                _ => {}
            }
        }
        parts
    }
}

/// How long some intervals are together; they may overlap.
fn length(intervals: &[Interval]) -> u64 {
    let mut sorted = intervals.to_vec();
    sorted.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for (from, to) in sorted {
        let from = from.max(reached);
        sum += to.saturating_sub(from);
        reached = reached.max(to);
    }
    sum
}

fn without(intervals: &[Interval], others: &[Interval]) -> Vec<Interval> {
    let mut left = intervals.to_vec();
    for &(from, to) in others {
        left = left
            .iter()
            .flat_map(|&(start, end)| [(start, end.min(from)), (start.max(to), end)])
            .filter(|(start, end)| start < end)
            .collect();
    }
    left
}
