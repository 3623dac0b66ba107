//! Timed VM exits from recorded events: what the kernel half does as they happen, with the same rules
//! ([`VcpuClock`](kvm_ebpf_common::VcpuClock), [`ExitStats::add`](kvm_ebpf_common::ExitStats::add),
//! [`CauseTable::add`](kvm_ebpf_common::CauseTable::add)) and to the same end, [`ThreadExits`].
//!
//! Where events are lost, an entry and the exit after it may be among them, and what were two exits
//! look like a single long one. So a [`Replay`] is told where they are missing, and gives up whatever
//! may reach across: such an exit is counted, as `unmatched`, and has no time; such time in the guest is
//! not counted. See [`Replay::lost`].

mod input;
mod keep;
mod lost;
mod roles;
mod segment_log;
mod threads;

use std::{collections::HashMap, vec};

use kvm_ebpf_common::{
    CauseTable, Key, PairingCounters, SlowExit, Span, Turn, VCPU_UNKNOWN, VcpuClock, is_time,
    is_waiting, turn,
};

use super::{ExitedThreads, RunningVcpus, Step, TimingError, recent, vcpu_id};
use crate::model::{Causes, Event, ExitReading, ExitTotals, Loss, StreamItem, ThreadExits};
pub use input::ReplayOptions;
use keep::{interrupt, keep_untimed, slow_exit};
use lost::LostMarks;
use roles::Roles;
use segment_log::SegmentLog;
use threads::{Room, Task, Thread, Threads};

/// Times the exits in a stream of events, which it takes in the order of their times.
#[derive(Debug)]
pub struct Replay {
    options: ReplayOptions,
    roles: Roles,
    threads: Threads,
    rows: Room,
    marks: LostMarks,
    exited: ExitedThreads,
    counters: PairingCounters,
    damaged: u64,
    slow: Vec<SlowExit>,
    segment_log: SegmentLog,
    /// Which thread entered a vCPU last, by process and vCPU index: its index and the thread.
    last_entered: HashMap<(u32, u32), (u32, Task)>,
    /// There were so many that those of threads that have ended were forgotten.
    forgot_entered: bool,
    /// It is known which vCPU a thread runs, and when it returns to user space.
    knows_turns: bool,
    /// Between which readings; see [`ExitStats::extremes`](kvm_ebpf_common::ExitStats::extremes).
    epoch: u64,
    /// When the first event was.
    began_ns: Option<u64>,
    now_ns: u64,
}

impl Replay {
    /// Makes a replay; its time begins with the first event.
    ///
    /// # Errors
    /// When the formats lack an event or a field that exits are timed with.
    pub fn new(options: ReplayOptions) -> Result<Self, TimingError> {
        let roles = Roles::of(&options.pairing, &options.formats)?;
        Ok(Self {
            knows_turns: roles.knows_turns,
            roles,
            threads: Threads::new(options.max_threads),
            rows: Room::new(if options.has_totals {
                options.max_rows
            } else {
                0
            }),
            options,
            marks: LostMarks::default(),
            exited: ExitedThreads::default(),
            counters: PairingCounters::default(),
            damaged: 0,
            slow: Vec::new(),
            segment_log: SegmentLog::default(),
            last_entered: HashMap::new(),
            forgot_entered: false,
            epoch: 1,
            began_ns: None,
            now_ns: 0,
        })
    }

    /// How exits are timed.
    #[must_use]
    pub fn options(&self) -> &ReplayOptions {
        &self.options
    }

    /// Takes the next item. Of one thread, no event is older than the one before.
    #[inline(always)]
    pub fn take(&mut self, item: &StreamItem<'_>) {
        match item {
            StreamItem::Event(event) => self.event(event),
            item => self.other(item),
        }
    }

    #[cold]
    fn other(&mut self, item: &StreamItem<'_>) {
        match *item {
            StreamItem::Event(_) => {}
            StreamItem::Damaged { time_ns, thread } => {
                self.begin(time_ns);
                self.interrupt_thread(Task::new(thread.tgid, thread.tid));
            }
            StreamItem::Lost { slot, cpu, .. } => {
                // Where it is known which event is missing, and nothing would follow from it, nothing is in doubt.
                if slot.is_none_or(|slot| self.roles.has_steps(slot)) {
                    self.marks.add(cpu);
                }
            }
            StreamItem::ThreadEnd { tid } => {
                if let Some(thread) = self.threads.end_tid(tid) {
                    self.depart(*thread);
                }
            }
            StreamItem::Interval { end_ns } => self.advance(end_ns),
        }
    }

    /// The stream goes on until then, even if nothing happens.
    pub fn advance(&mut self, now_ns: u64) {
        if is_time(now_ns) {
            self.now_ns = self.now_ns.max(now_ns);
        }
    }

    /// Time begins with the first event.
    #[inline]
    fn begin(&mut self, time_ns: u64) {
        self.advance(time_ns);
        if self.began_ns.is_none() && is_time(time_ns) {
            self.began_ns = Some(time_ns);
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        self.begin(event.time_ns);
        let Some((steps, is_whole)) = self.roles.steps(event.slot, event.raw) else {
            return;
        };
        let task = Task::new(event.tgid, event.tid);
        if !is_whole || !is_time(event.time_ns) {
            // It says nothing, as one that is lost; but its thread is known.
            self.damaged += 1;
            self.interrupt_thread(task);
            return;
        }
        for step in steps.iter() {
            if self.options.is_sampled {
                self.count_sampled(step, task, event);
                continue;
            }
            match step {
                Step::Switch => self.on_switch(task, event),
                Step::ThreadEnd => {
                    if let Some(thread) = self.threads.end(task) {
                        self.depart(*thread);
                    }
                }
                Step::LearnVcpu => {
                    let vcpu = roles::read_u32(event.raw, self.roles.entry_vcpu);
                    self.counting_thread(task, vcpu, event.cpu);
                }
                Step::Exit => self.on_exit(task, event),
                Step::Entry => self.on_entry(task, event),
                Step::User => self.on_clock(task, event, VcpuClock::user),
                Step::Wakeup => {
                    let halted_ns = roles::read(event.raw, self.roles.halted_ns);
                    self.on_clock(task, event, |clock, now_ns| clock.wakeup(now_ns, halted_ns));
                }
                Step::Detail(number) => self.on_detail(usize::from(number), task, event),
            }
        }
    }

    /// Counts an event of a sample. It stands for others, and has no time.
    fn count_sampled(&mut self, step: Step, task: Task, event: &Event<'_>) {
        let (key, vcpu) = match step {
            Step::Exit if self.roles.settings.by_reason != 0 => {
                let vcpu = roles::read_u32(event.raw, self.roles.exit.vcpu);
                (self.roles.exit_key(event.raw), vcpu)
            }
            Step::Detail(number) => {
                let Some(detail) = self.roles.details.get(usize::from(number)) else {
                    return;
                };
                let key = detail.key(event.raw);
                if detail.settings.kind != 0 || detail.skips(&key) {
                    return;
                }
                (key, VCPU_UNKNOWN)
            }
            _ => return,
        };
        let Some(index) = self.counting_thread(task, vcpu, event.cpu) else {
            return;
        };
        let Some(thread) = self.threads.at(index) else {
            return;
        };
        match thread.row(&key, &mut self.rows) {
            Some(row) => {
                row.stats.count = row.stats.count.saturating_add(event.count());
                row.stats.untimed = row.stats.untimed.saturating_add(event.count());
            }
            None => self.rows.count_full(&mut self.counters),
        }
    }

    /// Exits that took longer than [`Pairing::slow`] and have ended since this was asked last.
    pub fn slow_exits(&mut self) -> vec::Drain<'_, SlowExit> {
        self.slow.drain(..)
    }

    /// Hands over all timed exits since the beginning: of each thread and key, and of what has ended.
    pub fn exits(&mut self, each: &mut dyn FnMut(&ThreadExits<'_>)) -> ExitReading {
        let over = self.epoch;
        self.epoch += 1;
        let (mut vcpus, mut living) = (Vec::new(), Vec::new());
        self.interrupt_after_losses();
        for thread in self.threads.iter_mut() {
            living.push(thread.state);
            let vcpu_id = vcpu_id(&thread.state);
            for row in &mut thread.rows {
                let recent = recent(&row.stats, over);
                row.extremes.merge(recent);
                each(&ThreadExits {
                    vcpu_id,
                    key: row.key,
                    totals: &ExitTotals::of(&row.stats, row.extremes),
                    recent,
                    causes: row.causes.as_deref().map(Causes::from).as_ref(),
                });
            }
        }
        let running = RunningVcpus::of(living.iter());
        let mut moved = 0;
        for thread in &living {
            let (times, is_moved) = running.read_thread(thread, &self.exited, self.now_ns, each);
            vcpus.push(times);
            moved += u64::from(is_moved);
        }
        self.exited.hand_over(&running, each);
        vcpus.extend(self.exited.vcpus());
        ExitReading {
            time_ns: self
                .now_ns
                .saturating_sub(self.began_ns.unwrap_or(self.now_ns)),
            vcpus,
            loss: Loss {
                moved: self.loss().moved + moved,
                ..self.loss()
            },
        }
    }

    /// What the replay itself found missing. What the stream said to be missing is counted where the stream is read.
    #[must_use]
    pub fn loss(&self) -> Loss {
        Loss {
            unmatched: self.counters.unmatched,
            moved: self.counters.moved + self.exited.moved(),
            map_full: self.counters.rows_full + self.counters.threads_full + self.exited.full(),
            damaged: self.damaged,
            ..Loss::default()
        }
    }

    /// Interrupts each thread that may have lost events since it was seen: what was open in it has no time.
    fn interrupt_after_losses(&mut self) {
        for thread in self.threads.iter_mut() {
            if self.marks.since(thread.marks, thread.cpu) {
                interrupt(
                    thread,
                    &mut self.rows,
                    &mut self.counters,
                    &mut self.segment_log,
                );
                thread.marks = self.marks.all();
            }
        }
    }

    /// Events of a thread are missing: what was open in it has no time.
    fn interrupt_thread(&mut self, task: Task) {
        let index = self.threads.find(task);
        if let Some(thread) = index.and_then(|index| self.threads.at(index)) {
            interrupt(
                thread,
                &mut self.rows,
                &mut self.counters,
                &mut self.segment_log,
            );
        }
    }

    /// Where the thread of an event is, if it is a vCPU's; and when.
    #[inline(always)]
    fn find(&mut self, task: Task, event: &Event<'_>) -> Option<(u32, u64)> {
        let index = self.threads.find(task)?;
        Some((index, self.meet(index, event)?))
    }

    /// A thread is seen again. Returns the time: not before it was seen last, and not 0, which stands
    /// for "not".
    #[inline]
    fn meet(&mut self, index: u32, event: &Event<'_>) -> Option<u64> {
        let thread = self.threads.at(index)?;
        if thread.marks != self.marks.all() {
            if self.marks.since(thread.marks, thread.cpu)
                || self.marks.since(thread.marks, event.cpu)
            {
                interrupt(
                    thread,
                    &mut self.rows,
                    &mut self.counters,
                    &mut self.segment_log,
                );
            }
            thread.marks = self.marks.all();
        }
        thread.seen_ns = thread.seen_ns.max(event.time_ns).max(1);
        thread.cpu = event.cpu;
        Some(thread.seen_ns)
    }

    #[inline(always)]
    fn find_or_make(&mut self, task: Task, vcpu: u32, cpu: u32) -> Option<u32> {
        let marks = self.marks.all();
        let made = self.threads.find_or_make(task, vcpu, cpu, marks);
        if let Some(before) = made.before {
            self.replace(before, task, made.index, cpu);
        }
        let index = made.index?;
        if made.is_vcpu_new {
            self.take_turn(index);
        }
        Some(index)
    }

    /// The thread for which an event is counted. If there is no room for it, that is counted instead.
    #[inline(always)]
    fn counting_thread(&mut self, task: Task, vcpu: u32, cpu: u32) -> Option<u32> {
        let index = self.find_or_make(task, vcpu, cpu);
        if index.is_none() {
            self.counters.threads_full += 1;
        }
        index
    }

    /// A thread has ended, or runs another vCPU: it has an entry of its own for that.
    #[cold]
    fn replace(&mut self, mut before: Box<Thread>, task: Task, by: Option<u32>, cpu: u32) {
        let is_known =
            !self.marks.since(before.marks, before.cpu) && !self.marks.since(before.marks, cpu);
        if before.state.task == task.0
            && is_known
            && let Some(thread) = by.and_then(|index| self.threads.at(index))
        {
            // It has run another vCPU since the last entry.
            let clock = &mut thread.state.clock;
            before.state.clock.hand_over_guest_time(clock);
        }
        self.depart(*before);
    }

    /// Makes a thread the last one that entered its vCPU, as the eBPF programs do (`kvm-ebpf/src/turns.rs`). If another
    /// thread was, the exit that is open in this one has no time.
    #[cold]
    fn take_turn(&mut self, index: u32) {
        if !self.knows_turns {
            return;
        }
        let Some(thread) = self.threads.at(index) else {
            return;
        };
        thread.state.check_turn = 0;
        let vcpu = (thread.state.tgid(), thread.state.vcpu);
        let task = Task(thread.state.task);
        let last_entered = self.last_entered.get(&vcpu).copied();
        // One that was forgotten has ended; whether there was one is not known.
        let is_in_doubt = self.forgot_entered && thread.state.clock.open_key().is_some();
        let last_entered = last_entered.or(is_in_doubt.then_some((u32::MAX, Task(0))));
        if let Some((last, last_task)) = last_entered
            && (last, last_task) != (index, task)
        {
            let previous = self.threads.at(last).filter(|it| {
                it.state.task == last_task.0 && (it.state.tgid(), it.state.vcpu) == vcpu
            });
            let (clock, has_ended) = match &previous {
                Some(previous) => (previous.state.clock, false),
                None => (VcpuClock::default(), true),
            };
            let decision = turn(&clock, has_ended);
            if decision == Turn::Moved
                && let Some(previous) = previous
            {
                previous.state.check_turn = 1;
            }
            if let Some(thread) = self.threads.at(index) {
                match decision {
                    Turn::Separate => {
                        thread.state.separate = 1;
                        return;
                    }
                    Turn::Moved => {
                        self.segment_log.unseen(thread);
                        if let Some(key) = thread.state.clock.interrupt() {
                            self.counters.moved += 1;
                            keep_untimed(thread, &key, &mut self.rows, &mut self.counters);
                        }
                    }
                }
            }
        }
        if self.last_entered.len() >= self.options.max_threads.saturating_mul(2) {
            let threads = &mut self.threads;
            self.last_entered.retain(|vcpu, (index, task)| {
                threads.at(*index).is_some_and(|it| {
                    it.state.task == task.0 && (it.state.tgid(), it.state.vcpu) == *vcpu
                })
            });
            self.forgot_entered = true;
        }
        self.last_entered.insert(vcpu, (index, task));
    }

    fn on_exit(&mut self, task: Task, event: &Event<'_>) {
        let (raw, fields, settings) = (event.raw, &self.roles.exit, &self.roles.settings);
        let vcpu = roles::read_u32(raw, fields.vcpu);
        let key = (settings.by_reason != 0).then(|| self.roles.exit_key(raw));
        let cause = (settings.causes != 0 || settings.slow_ns != u64::MAX).then(|| Key {
            code: roles::read(raw, fields.rip),
            class: 0,
            kind: settings.rip_kind,
        });
        let Some(index) = self.counting_thread(task, vcpu, event.cpu) else {
            return;
        };
        let Some(now_ns) = self.meet(index, event) else {
            return;
        };
        let Some(thread) = self.threads.at(index) else {
            return;
        };
        if let Some(cause) = cause {
            thread.state.guest_rip = cause.code;
            thread.state.cause = cause;
        }
        if self.segment_log.is_kept() {
            let rip = roles::read(raw, self.roles.exit.rip);
            self.segment_log.leaves_guest(thread, now_ns, rip);
        }
        if let Some(unmatched) = thread.state.clock.exit(now_ns, key) {
            self.counters.unmatched += 1;
            keep_untimed(thread, &unmatched, &mut self.rows, &mut self.counters);
        }
    }

    fn on_entry(&mut self, task: Task, event: &Event<'_>) {
        let Some((index, now_ns)) = self.find(task, event) else {
            return;
        };
        let Some(mut thread) = self.threads.at(index) else {
            return;
        };
        if thread.state.check_turn != 0 {
            self.take_turn(index);
            match self.threads.at(index) {
                Some(it) => thread = it,
                None => return,
            }
        }
        let before = self.segment_log.before(thread);
        if let Some(span) = thread.state.clock.entry(now_ns) {
            self.segment_log.over(thread, before, &span, now_ns);
            self.keep(index, &span, now_ns, event.cpu);
        }
    }

    /// The clock of an event's thread is told of it, if that is a vCPU's.
    fn on_clock(&mut self, task: Task, event: &Event<'_>, tell: impl FnOnce(&mut VcpuClock, u64)) {
        if let Some((index, now_ns)) = self.find(task, event)
            && let Some(thread) = self.threads.at(index)
        {
            let before = self.segment_log.before(thread);
            tell(&mut thread.state.clock, now_ns);
            self.segment_log.within(thread, before, now_ns);
        }
    }

    fn on_detail(&mut self, number: usize, task: Task, event: &Event<'_>) {
        let Some(detail) = self.roles.details.get(number) else {
            return;
        };
        let key = detail.key(event.raw);
        let is_skipped = detail.skips(&key);
        let settings = detail.settings;
        let counted = settings.kind == 0;
        // As in the kernel half: without `kvm_exit`, the events are counted without a time.
        let index = if counted {
            self.counting_thread(task, VCPU_UNKNOWN, event.cpu)
        } else {
            self.threads.find(task)
        };
        let Some(index) = index else {
            return;
        };
        let Some(now_ns) = self.meet(index, event) else {
            return;
        };
        let Some(thread) = self.threads.at(index) else {
            return;
        };
        let mut over = None;
        let before = self.segment_log.before(thread);
        if !is_skipped {
            if !counted {
                thread.state.cause = key;
            } else {
                match thread.state.clock.event(now_ns, key) {
                    Ok(span) => over = span,
                    Err(key) => keep_untimed(thread, &key, &mut self.rows, &mut self.counters),
                }
            }
        }
        if let Some(span) = &over {
            self.segment_log.over(thread, before, span, now_ns);
        } else {
            self.segment_log.within(thread, before, now_ns);
        }
        if settings.is_user != 0 {
            let before = self.segment_log.before(thread);
            thread.state.clock.user(now_ns);
            self.segment_log.within(thread, before, now_ns);
        }
        if let Some(span) = over {
            self.keep(index, &span, now_ns, event.cpu);
        }
    }

    fn on_switch(&mut self, task: Task, event: &Event<'_>) {
        if let Some((index, now_ns)) = self.find(task, event)
            && !is_waiting(roles::read(event.raw, self.roles.prev_state))
            && let Some(thread) = self.threads.at(index)
        {
            thread.state.clock.switched_out(now_ns);
        }
        let next = roles::read_u32(event.raw, self.roles.next_tid);
        if let Some(index) = self.threads.find_tid(next)
            && let Some(now_ns) = self.meet(index, event)
            && let Some(thread) = self.threads.at(index)
        {
            let before = self.segment_log.before(thread);
            thread.state.clock.switched_in(now_ns);
            self.segment_log.within(thread, before, now_ns);
        }
    }

    /// Keeps a span that is over.
    fn keep(&mut self, index: u32, span: &Span, now_ns: u64, cpu: u32) {
        let Some(thread) = self.threads.at(index) else {
            return;
        };
        let cause = thread.state.cause;
        match thread.row(&span.key, &mut self.rows) {
            Some(row) => {
                row.stats.add(span, self.epoch);
                if self.roles.settings.causes != 0 && cause.kind != 0 {
                    let causes = row
                        .causes
                        .get_or_insert_with(|| Box::new(CauseTable::default()));
                    causes.add(cause, span.total_ns);
                }
            }
            None => self.rows.count_full(&mut self.counters),
        }
        if span.is_slow(self.roles.settings.slow_ns) {
            self.slow.push(slow_exit(thread, span, now_ns, cpu));
        }
    }

    /// Keeps what a thread had counted that is no more.
    fn depart(&mut self, mut thread: Thread) {
        if thread.marks != self.marks.all() && self.marks.since(thread.marks, thread.cpu) {
            interrupt(
                &mut thread,
                &mut self.rows,
                &mut self.counters,
                &mut self.segment_log,
            );
        }
        self.segment_log.thread_end(&thread);
        self.rows.give_back(thread.rows.len());
        for row in &mut thread.rows {
            let recent = recent(&row.stats, self.epoch);
            row.extremes.merge(recent);
            let totals = ExitTotals::of(&row.stats, row.extremes);
            let causes = row.causes.as_deref().map(Causes::from);
            self.exited
                .keep(&thread.state, row.key, &totals, recent, causes);
        }
        self.exited.keep_thread(&thread.state);
        if let Some(key) = thread.state.clock.open_key() {
            self.exited.keep_open(&thread.state, key);
        }
    }
}
