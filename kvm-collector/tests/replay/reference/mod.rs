//! The reference implementation of the replay. It has the whole stream, so it needs no state machine: it searches the
//! stream for the start and the end of each exit, and computes times as lengths of sets of intervals.

mod parts;

use std::collections::BTreeMap;

use kvm_collector::model::VcpuId;
use kvm_ebpf_common::{GUEST_RIP_KIND, Key, VCPU_UNKNOWN};

use parts::{Parts, length, without};

use crate::event::{CountMode, EventType, StreamEvent};

/// The expected row of a vCPU and key.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ExpectedRow {
    pub(crate) open: u64,
    pub(crate) untimed: u64,
    pub(crate) vmm_ns: u64,
    pub(crate) halted_ns: u64,
    pub(crate) preempted_ns: u64,
    /// The time of each timed exit.
    pub(crate) times_ns: Vec<u64>,
    /// The times since the previous reading.
    pub(crate) recent_ns: Vec<u64>,
    pub(crate) causes: BTreeMap<Key, u64>,
}

/// The expected reading.
#[derive(Debug, Default)]
pub(crate) struct ExpectedReading {
    pub(crate) rows: BTreeMap<(VcpuId, Key), ExpectedRow>,
    pub(crate) guest_ns: BTreeMap<VcpuId, u64>,
    pub(crate) unmatched: u64,
    pub(crate) moved: u64,
    /// Total time from exits to the entries that end them.
    pub(crate) exit_ns: u64,
}

/// An event, and its index in the stream.
type IndexedEvent = (usize, StreamEvent);

/// The events of a thread from its first exit on, while it runs one vCPU.
struct VcpuRun {
    tgid: u32,
    tid: u32,
    vcpu: Option<u32>,
    events: Vec<IndexedEvent>,
    /// The index of the first event after the run.
    end: Option<usize>,
    /// The entry into this vCPU, if it was first counted for the vCPU that the thread ran before.
    initial_entry: Option<IndexedEvent>,
    /// Whether the last entry belongs to the next vCPU of the thread.
    last_entry_is_of_next_vcpu: bool,
}

/// How an exit ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExitEnd {
    Entry,
    /// The thread exits again without an entry, or events are lost.
    Unknown,
    /// The stream ends.
    InProgress,
}

/// Computes the expected reading of a stream.
struct ReferenceReplay<'a> {
    events: &'a [StreamEvent],
    mode: CountMode,
    now_ns: u64,
    /// The index of the previous reading.
    previous_reading: usize,
    /// For each vCPU, the time of the last transition of each of its runs.
    last_transitions_ns: BTreeMap<(u32, u32), Vec<u64>>,
    /// The process and the vCPU of the current run.
    vcpu: Option<(u32, u32)>,
    expected: ExpectedReading,
}

/// Returns the expected reading at the end of `events`. `previous_reading` is the index of the previous reading.
pub(crate) fn read(
    events: &[StreamEvent],
    mode: CountMode,
    previous_reading: usize,
) -> ExpectedReading {
    let mut replay = ReferenceReplay {
        events,
        mode,
        now_ns: events.iter().map(|it| it.time_ns).max().unwrap_or(0),
        previous_reading,
        last_transitions_ns: BTreeMap::new(),
        vcpu: None,
        expected: ExpectedReading::default(),
    };
    let runs = find_vcpu_runs(events, mode);
    for run in &runs {
        if let Some(vcpu) = run.vcpu {
            let last_ns = replay.last_transition_ns(run);
            let transitions = replay.last_transitions_ns.entry((run.tgid, vcpu));
            transitions.or_default().push(last_ns);
        }
    }
    for run in &runs {
        replay.add_run(run);
    }
    replay.expected
}

fn find_vcpu_runs(events: &[StreamEvent], mode: CountMode) -> Vec<VcpuRun> {
    let mut runs: Vec<VcpuRun> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        if matches!(
            event.event_type,
            EventType::Lost { .. } | EventType::Reading
        ) {
            continue;
        }
        let is_current = |run: &&mut VcpuRun| run.tid == event.tid && run.end.is_none();
        let current = runs.iter_mut().find(is_current);
        let vcpu = match event.event_type {
            EventType::Exit { vcpu, .. } => Some(vcpu),
            _ => None,
        };
        let starts_run =
            vcpu.is_some() || counted_key(mode, event).is_some() || is_skipped(mode, event);
        let mut is_same_run = false;
        let mut initial_entry = None;
        if let Some(run) = current {
            let is_other_vcpu = vcpu.is_some() && run.vcpu.is_some() && run.vcpu != vcpu;
            let is_same_process = run.tgid == event.tgid || event.event_type == EventType::SwitchIn;
            is_same_run = is_same_process && !is_other_vcpu;
            if is_same_run && event.event_type != EventType::ThreadEnd {
                run.vcpu = run.vcpu.or(vcpu);
                run.events.push((at, *event));
            } else if starts_run || is_same_run {
                run.end = Some(at);
                if is_same_process && is_other_vcpu {
                    initial_entry = find_last_entry(events, run, (at, *event));
                    run.last_entry_is_of_next_vcpu = initial_entry.is_some();
                }
            }
        }
        if starts_run && !is_same_run {
            runs.push(VcpuRun {
                tgid: event.tgid,
                tid: event.tid,
                vcpu,
                events: vec![(at, *event)],
                end: None,
                initial_entry,
                last_entry_is_of_next_vcpu: false,
            });
        }
    }
    runs
}

/// Returns the last entry of a run that ends with an exit of another vCPU, if the thread was in the guest. Returns `None`
/// if events may have been lost since the entry.
fn find_last_entry(
    events: &[StreamEvent],
    run: &VcpuRun,
    (at, exit): IndexedEvent,
) -> Option<IndexedEvent> {
    let is_transition = |(_, it): &&IndexedEvent| {
        matches!(it.event_type, EventType::Exit { .. } | EventType::Entry)
    };
    let (entry_index, entry) = *run.events.iter().rev().find(is_transition)?;
    if entry.event_type != EventType::Entry {
        return None;
    }
    let since_entry = run.events.iter().filter(|it| it.0 >= entry_index);
    let since_entry: Vec<_> = since_entry.copied().chain([(at, exit)]).collect();
    let is_complete = since_entry
        .windows(2)
        .all(|pair| !has_loss_between(events, &pair[0], &pair[1]));
    is_complete.then_some((entry_index, entry))
}

/// Returns whether events may be lost between two events of a thread, on the CPU of either.
fn has_loss_between(events: &[StreamEvent], first: &IndexedEvent, second: &IndexedEvent) -> bool {
    let cpus = [first.1.cpu, second.1.cpu];
    has_loss_on(&events[first.0..second.0], &cpus)
}

fn has_loss_on(events: &[StreamEvent], cpus: &[u32]) -> bool {
    events.iter().any(|it| match it.event_type {
        EventType::Lost { on_all_cpus } => on_all_cpus || cpus.contains(&it.cpu),
        _ => false,
    })
}

/// Returns the key that an event is counted for, if events of its type are counted.
fn counted_key(mode: CountMode, event: &StreamEvent) -> Option<Key> {
    let (code, subcode) = match (mode, event.event_type) {
        (CountMode::Pio, EventType::Pio { port, rw }) => (port.into(), rw),
        (CountMode::Mmio, EventType::Mmio { gpa, kind }) if kind != 0 => (gpa, kind),
        (CountMode::Userspace, EventType::UserspaceExit { reason, errno }) => {
            (reason.into(), errno.cast_unsigned())
        }
        _ => return None,
    };
    Some(Key {
        code,
        subcode,
        kind: 0,
    })
}

fn is_skipped(mode: CountMode, event: &StreamEvent) -> bool {
    mode == CountMode::Mmio && matches!(event.event_type, EventType::Mmio { kind: 0, .. })
}

impl ReferenceReplay<'_> {
    fn add_run(&mut self, run: &VcpuRun) {
        let is_ended_vcpu = run.vcpu.is_some() && run.end.is_some();
        let vcpu_id = VcpuId {
            tgid: run.tgid,
            vcpu: run.vcpu.unwrap_or(VCPU_UNKNOWN),
            tid: if is_ended_vcpu { 0 } else { run.tid },
        };
        if let (Some((_, entry)), Some((_, exit))) = (run.initial_entry, run.events.first()) {
            *self.expected.guest_ns.entry(vcpu_id).or_default() += exit.time_ns - entry.time_ns;
        }
        self.vcpu = run.vcpu.map(|vcpu| (run.tgid, vcpu));
        let end = run.end.unwrap_or(self.events.len());
        let mut from = 0;
        for to in 1..=run.events.len() {
            let (at, previous) = run.events[to - 1];
            let (next, cpus) = match run.events.get(to) {
                Some((next, event)) => (*next, vec![previous.cpu, event.cpu]),
                None => (end, vec![previous.cpu]),
            };
            let has_loss = has_loss_on(&self.events[at..next], &cpus);
            if has_loss || to == run.events.len() {
                let events = &run.events[from..to];
                self.add_events_without_loss(vcpu_id, events, has_loss, run.end.is_none());
                from = to;
            }
        }
        self.expected.guest_ns.entry(vcpu_id).or_default();
    }

    /// Adds consecutive events of a thread between which no events are lost. With `is_followed_by_loss`, events are lost
    /// after them. With `is_running`, the thread has not ended.
    fn add_events_without_loss(
        &mut self,
        vcpu_id: VcpuId,
        events: &[IndexedEvent],
        is_followed_by_loss: bool,
        is_running: bool,
    ) {
        let is_transition = |(_, it): &IndexedEvent| {
            matches!(it.event_type, EventType::Exit { .. } | EventType::Entry)
        };
        let mut transitions: Vec<_> = (0..events.len())
            .filter(|it| is_transition(&events[*it]))
            .collect();
        // Before the first transition, the state is unknown.
        let first = transitions.first().copied().unwrap_or(events.len());
        self.add_untimed(vcpu_id, &events[..first]);
        transitions.push(events.len());
        for pair in transitions.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let next = events.get(to).map(|(_, it)| *it);
            let is_exit = matches!(events[from].1.event_type, EventType::Exit { .. });
            let end = match next.map(|it| it.event_type) {
                Some(EventType::Entry) => ExitEnd::Entry,
                None if !is_followed_by_loss => ExitEnd::InProgress,
                _ => ExitEnd::Unknown,
            };
            if is_exit {
                let (end_ns, end_index) = match next {
                    Some(next) => (next.time_ns, events[to].0),
                    None => (self.now_ns, self.events.len()),
                };
                self.add_exit(vcpu_id, &events[from..to], end, end_ns, end_index);
                continue;
            }
            self.add_untimed(vcpu_id, &events[from..to]);
            let guest_ns = self.expected.guest_ns.entry(vcpu_id).or_default();
            match next {
                Some(next) if matches!(next.event_type, EventType::Exit { .. }) => {
                    *guest_ns += next.time_ns - events[from].1.time_ns;
                }
                None if !is_followed_by_loss && is_running => {
                    *guest_ns += self.now_ns - events[from].1.time_ns;
                }
                _ => {}
            }
        }
    }

    /// Returns the time of the last event of a run that entered the guest or started a span.
    fn last_transition_ns(&self, run: &VcpuRun) -> u64 {
        let (mut entry_ns, mut span_ns) = (run.initial_entry.map_or(0, |it| it.1.time_ns), 0);
        let (mut is_in_exit, mut has_key) = (false, false);
        let mut previous: Option<IndexedEvent> = None;
        for current in &run.events {
            if previous.is_some_and(|it| has_loss_between(self.events, &it, current)) {
                (entry_ns, is_in_exit) = (0, false);
            }
            previous = Some(*current);
            let event = &current.1;
            match event.event_type {
                EventType::Exit { .. } => {
                    (entry_ns, span_ns, is_in_exit) = (0, event.time_ns, true);
                    has_key = matches!(self.mode, CountMode::Reason | CountMode::Rip);
                }
                EventType::Entry => (entry_ns, is_in_exit) = (event.time_ns, false),
                _ if is_in_exit && counted_key(self.mode, event).is_some() => {
                    if has_key {
                        span_ns = event.time_ns;
                    }
                    has_key = true;
                }
                _ => {}
            }
        }
        let has_loss_at_end = previous.is_some_and(|(at, event)| {
            let end = run.end.unwrap_or(self.events.len());
            has_loss_on(&self.events[at..end], &[event.cpu])
        });
        if has_loss_at_end || run.last_entry_is_of_next_vcpu {
            entry_ns = 0;
        }
        entry_ns.max(span_ns)
    }

    /// Returns whether any run of the current vCPU has a transition after a time.
    fn has_transition_after(&self, time_ns: u64) -> bool {
        let transitions = self
            .vcpu
            .and_then(|vcpu| self.last_transitions_ns.get(&vcpu));
        transitions.is_some_and(|all| all.iter().any(|it| *it > time_ns))
    }

    fn row(&mut self, vcpu_id: VcpuId, key: Key) -> &mut ExpectedRow {
        self.expected.rows.entry((vcpu_id, key)).or_default()
    }

    /// Counts events that happen when the thread is not known to be in an exit.
    fn add_untimed(&mut self, vcpu_id: VcpuId, events: &[IndexedEvent]) {
        for (_, event) in events {
            if let Some(key) = counted_key(self.mode, event) {
                self.row(vcpu_id, key).untimed += 1;
            }
        }
    }

    /// Adds an exit. Its events start with `kvm_exit`.
    fn add_exit(
        &mut self,
        vcpu_id: VcpuId,
        events: &[IndexedEvent],
        end: ExitEnd,
        end_ns: u64,
        end_index: usize,
    ) {
        // The index of the first event of each span, and the span's key.
        let mut spans = Vec::new();
        match (self.mode, events[0].1.event_type) {
            (CountMode::Reason | CountMode::Rip, EventType::Exit { code, .. }) => {
                let key = Key {
                    code: code.into(),
                    subcode: 2,
                    kind: 0,
                };
                spans.push((0, key));
            }
            _ => {
                for (index, (_, event)) in events.iter().enumerate() {
                    if let Some(key) = counted_key(self.mode, event) {
                        spans.push((index, key));
                    }
                }
            }
        }
        // The first span starts at the exit.
        if let Some(first) = spans.first_mut() {
            first.0 = 0;
        }
        if end == ExitEnd::Entry && !spans.is_empty() {
            self.expected.exit_ns += end_ns - events[0].1.time_ns;
        }
        // Each span ends where the next one starts.
        let next_starts: Vec<_> = spans.iter().skip(1).map(|it| it.0).collect();
        for (number, (start, key)) in spans.iter().enumerate() {
            match next_starts.get(number) {
                Some(next_start) => {
                    let (index, event) = events[*next_start];
                    let span = &events[*start..*next_start];
                    self.add_timed(vcpu_id, *key, span, event.time_ns, index);
                }
                None if end == ExitEnd::Entry => {
                    self.add_timed(vcpu_id, *key, &events[*start..], end_ns, end_index);
                }
                // The same or another thread runs the vCPU afterwards.
                None if end == ExitEnd::InProgress
                    && self.has_transition_after(events[*start].1.time_ns) =>
                {
                    self.expected.moved += 1;
                    self.row(vcpu_id, *key).untimed += 1;
                }
                None if end == ExitEnd::InProgress => self.row(vcpu_id, *key).open += 1,
                None => {
                    self.expected.unmatched += 1;
                    self.row(vcpu_id, *key).untimed += 1;
                }
            }
        }
    }

    /// Adds a span with its time, parts and cause.
    fn add_timed(
        &mut self,
        vcpu_id: VcpuId,
        key: Key,
        events: &[IndexedEvent],
        end_ns: u64,
        end_index: usize,
    ) {
        let start_ns = events[0].1.time_ns;
        let is_recent = end_index >= self.previous_reading;
        let cause = self.find_cause(events);
        let parts = Parts::new(self.mode, events, end_ns);
        let row = self.row(vcpu_id, key);
        row.times_ns.push(end_ns - start_ns);
        if is_recent {
            row.recent_ns.push(end_ns - start_ns);
        }
        row.preempted_ns += length(&parts.preempted);
        row.vmm_ns += length(&without(&parts.vmm, &parts.preempted));
        row.halted_ns += length(&without(&parts.halted, &parts.preempted));
        if let Some(cause) = cause {
            *row.causes.entry(cause).or_default() += 1;
        }
    }

    fn find_cause(&self, events: &[IndexedEvent]) -> Option<Key> {
        let cause = |(_, event): &IndexedEvent| match (self.mode, event.event_type) {
            (CountMode::Reason, EventType::Pio { port, rw }) => Some((port.into(), rw, 1)),
            (CountMode::Reason, EventType::Mmio { gpa, kind }) if kind != 0 => Some((gpa, kind, 2)),
            (CountMode::Rip, EventType::Exit { rip, .. }) => Some((rip, 0, GUEST_RIP_KIND)),
            _ => None,
        };
        let (code, subcode, kind) = events.iter().rev().find_map(cause)?;
        Some(Key {
            code,
            subcode,
            kind,
        })
    }
}
