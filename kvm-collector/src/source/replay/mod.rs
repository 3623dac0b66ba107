//! Timed VM exits from recorded events: what the kernel half does as they happen, with the same rules
//! ([`VcpuClock`](kvm_ebpf_common::VcpuClock), [`ExitStats::add`](kvm_ebpf_common::ExitStats::add),
//! [`CauseTable::add`](kvm_ebpf_common::CauseTable::add)) and to the same end, [`ThreadExits`].
//!
//! Where events are lost, an entry and the exit after it may be among them, and what were two exits
//! look like a single long one. So a [`Replay`] is told where they are missing, and gives up whatever
//! may reach across: such an exit is counted, as `unmatched`, and has no time; such time in the guest is
//! not counted. See [`Replay::lost`].

mod input;
mod journal;
mod keep;
mod lost;
mod roles;
mod threads;

use std::{convert::Infallible, vec};

use kvm_ebpf_common::{
    CauseTable, Key, PairingCounters, SlowExit, Span, VCPU_UNKNOWN, VcpuClock, is_time,
};

use crate::{
    model::{Causes, Event, ExitReading, ExitTotals, Loss, MinMax, ThreadExits},
    probe::{Filter, PlanError},
    tracefs::Format,
};

use super::{
    ExitSource,
    departed::Departed,
    of_thread::{recent, times, whose},
};
pub use input::ReplayOptions;
use journal::Journal;
use keep::{interrupt, keep_untimed, slow_exit};
use lost::LostMarks;
pub use roles::Role;
use roles::{Roles, Step};
use threads::{Room, Task, Thread, Threads};

/// The bits of `prev_state` that say that a thread waits for something (`TASK_REPORT`,
/// include/linux/sched.h), as in the kernel half.
const WAITS: u64 = 0xff;

/// Recorded events, timed. They are taken in the order of their times.
#[derive(Debug)]
pub struct Replay {
    options: ReplayOptions,
    roles: Roles,
    threads: Threads,
    rows: Room,
    marks: LostMarks,
    departed: Departed,
    counters: PairingCounters,
    lost: u64,
    slow: Vec<SlowExit>,
    journal: Journal,
    /// Between which readings; see [`ExitStats::extremes`](kvm_ebpf_common::ExitStats::extremes).
    epoch: u64,
    began_ns: u64,
    now_ns: u64,
}

impl Replay {
    /// Begins with a recording that began at a time.
    ///
    /// # Errors
    /// When the formats lack an event or a field, as in [`Live::begin`](super::Live::begin).
    pub fn new(options: ReplayOptions, began_ns: u64) -> Result<Self, PlanError> {
        Ok(Self {
            roles: Roles::of(&options.pairing, options.entry.as_ref())?,
            threads: Threads::new(options.most_threads),
            rows: Room(options.most_rows),
            options,
            marks: LostMarks::default(),
            departed: Departed::default(),
            counters: PairingCounters::default(),
            lost: 0,
            slow: Vec::new(),
            journal: Journal::default(),
            epoch: 1,
            began_ns,
            now_ns: began_ns,
        })
    }

    /// What is made of the events.
    #[must_use]
    pub fn options(&self) -> &ReplayOptions {
        &self.options
    }

    /// What events of this format are to [`Replay::event`]; `None` for one that nothing follows from.
    #[must_use]
    pub fn role(&self, format: &Format) -> Option<Role> {
        self.roles.role(format)
    }

    /// The recording goes on until then, even if nothing happens.
    pub fn advance(&mut self, now_ns: u64) {
        if is_time(now_ns) {
            self.now_ns = self.now_ns.max(now_ns);
        }
    }

    /// Takes an event. Of one thread, none is older than the one before. One whose time is none counts as lost.
    pub fn event(&mut self, role: Role, event: &Event<'_>) {
        self.advance(event.time_ns);
        let task = Task::new(event.tgid, event.tid);
        let passes = self.passes_task(event);
        let (steps, is_whole) = self.roles.steps(role, event.raw);
        if !is_whole || !is_time(event.time_ns) {
            self.damaged(task, passes);
            return;
        }
        for number in 0..steps {
            let Some(step) = self.roles.step(role, number) else {
                return;
            };
            match step {
                Step::Switch => self.on_switch(task, event),
                Step::ThreadEnd => self.thread_end(event.time_ns, event.tgid, event.tid),
                _ if !passes => {}
                Step::LearnVcpu => {
                    let vcpu = roles::read_u32(event.raw, self.roles.entry_vcpu);
                    self.find_or_make(task, vcpu, event.cpu);
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

    /// A thread has ended.
    pub fn thread_end(&mut self, time_ns: u64, tgid: u32, tid: u32) {
        self.advance(time_ns);
        if let Some(thread) = self.threads.end(Task::new(tgid, tid)) {
            self.depart(*thread);
        }
    }

    /// Events are missing between those taken before and those taken after: so many, on one CPU or on
    /// whichever. Where it is known that they are missing from one time to another, it is to be told at
    /// both, with a count of 0 for one of them.
    ///
    /// Whatever was open in a thread that may have lost events is given up: a thread that is seen on
    /// that CPU last before or first after. One that is seen elsewhere both times may have been there in
    /// between, and back; that it lost an entry and an exit there is taken not to have happened.
    pub fn lost(&mut self, cpu: Option<u32>, count: u64) {
        self.marks.add(cpu);
        self.lost += count;
    }

    /// Exits that took longer than [`Pairing::slow`] and have ended since this was asked last.
    pub fn slow_exits(&mut self) -> vec::Drain<'_, SlowExit> {
        self.slow.drain(..)
    }

    /// Hands over all timed exits since the beginning: of each thread and key, and of what has ended.
    pub fn exits(&mut self, each: &mut dyn FnMut(&ThreadExits<'_>)) -> ExitReading {
        let over = self.epoch;
        self.epoch += 1;
        let mut vcpus = Vec::new();
        for thread in self.threads.iter_mut() {
            if self.marks.since(thread.marks, thread.cpu) {
                interrupt(
                    thread,
                    &mut self.rows,
                    &mut self.counters,
                    &mut self.journal,
                );
                thread.marks = self.marks.all();
            }
            let whose = whose(&thread.state);
            for row in &mut thread.rows {
                let recent = recent(&row.stats, over);
                row.extremes.merge(recent);
                each(&ThreadExits {
                    whose,
                    key: row.key,
                    totals: &ExitTotals::of(&row.stats, row.extremes),
                    recent,
                    causes: row.causes.as_deref().map(Causes::from).as_ref(),
                });
            }
            if let Some(key) = thread.state.clock.open_key() {
                each(&ThreadExits {
                    whose,
                    key,
                    totals: &ExitTotals::open(),
                    recent: MinMax::NONE,
                    causes: None,
                });
            }
            vcpus.push(times(&thread.state, self.now_ns));
        }
        self.departed.hand_over(each);
        vcpus.extend(self.departed.vcpus());
        ExitReading {
            time_ns: self.now_ns.saturating_sub(self.began_ns),
            vcpus,
            loss: Loss {
                lost: self.lost,
                unmatched: self.counters.unmatched,
                map_full: self.counters.rows_full + self.counters.threads_full,
                unattributed: self.counters.unattributed,
                ..Loss::default()
            },
        }
    }

    #[inline]
    fn passes_task(&self, event: &Event<'_>) -> bool {
        let Filter { tgids, tids, .. } = &self.options.filter;
        (tgids.is_empty() || tgids.contains(&event.tgid))
            && (tids.is_empty() || tids.contains(&event.tid))
    }

    fn by_vcpu(&self) -> bool {
        !self.options.filter.vcpus.is_empty()
    }

    /// A record that is too short says nothing, as one that is lost; but its thread is known.
    fn damaged(&mut self, task: Task, passes: bool) {
        if !passes {
            return;
        }
        self.lost += 1;
        let index = self.threads.find(task);
        if let Some(thread) = index.and_then(|index| self.threads.at(index)) {
            interrupt(
                thread,
                &mut self.rows,
                &mut self.counters,
                &mut self.journal,
            );
        }
    }

    /// Where the thread of an event is, if it is a vCPU's; and when.
    #[inline]
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
                    &mut self.journal,
                );
            }
            thread.marks = self.marks.all();
        }
        thread.seen_ns = thread.seen_ns.max(event.time_ns).max(1);
        thread.cpu = event.cpu;
        Some(thread.seen_ns)
    }

    fn find_or_make(&mut self, task: Task, vcpu: u32, cpu: u32) -> Option<u32> {
        let marks = self.marks.all();
        let (index, before) = self.threads.find_or_make(task, vcpu, cpu, marks);
        if let Some(before) = before {
            self.depart(*before);
        }
        index
    }

    fn on_exit(&mut self, task: Task, event: &Event<'_>) {
        let (raw, fields, settings) = (event.raw, &self.roles.exit, &self.roles.settings);
        let mut vcpu = roles::read_u32(raw, fields.vcpu);
        let key = (settings.by_reason != 0).then(|| Key {
            code: roles::read(raw, fields.code),
            class: roles::read_u32(raw, fields.class),
            kind: 0,
        });
        let cause = (settings.causes != 0 || settings.slow_ns != u64::MAX).then(|| Key {
            code: roles::read(raw, fields.rip),
            class: 0,
            kind: settings.rip_kind,
        });
        if self.by_vcpu() {
            if vcpu == VCPU_UNKNOWN
                && let Some(index) = self.threads.find(task)
                && let Some(thread) = self.threads.at(index)
            {
                vcpu = thread.state.vcpu;
            }
            if vcpu == VCPU_UNKNOWN {
                self.counters.unattributed += 1;
                return;
            }
            if !self.options.filter.vcpus.contains(&vcpu) {
                return;
            }
        }
        let Some(index) = self.find_or_make(task, vcpu, event.cpu) else {
            self.counters.threads_full += 1;
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
        if self.journal.is_kept() {
            let rip = roles::read(raw, self.roles.exit.rip);
            self.journal.leaves_guest(thread, now_ns, rip);
        }
        if let Some(unmatched) = thread.state.clock.exit(now_ns, key) {
            self.counters.unmatched += 1;
            keep_untimed(thread, &unmatched, &mut self.rows, &mut self.counters);
        }
    }

    fn on_entry(&mut self, task: Task, event: &Event<'_>) {
        if let Some((index, now_ns)) = self.find(task, event)
            && let Some(thread) = self.threads.at(index)
        {
            let before = self.journal.before(thread);
            if let Some(span) = thread.state.clock.entry(now_ns) {
                self.journal.over(thread, before, &span, now_ns);
                self.keep(index, &span, now_ns, event.cpu);
            }
        }
    }

    /// The clock of an event's thread is told of it, if that is a vCPU's.
    fn on_clock(&mut self, task: Task, event: &Event<'_>, tell: impl FnOnce(&mut VcpuClock, u64)) {
        if let Some((index, now_ns)) = self.find(task, event)
            && let Some(thread) = self.threads.at(index)
        {
            let before = self.journal.before(thread);
            tell(&mut thread.state.clock, now_ns);
            self.journal.within(thread, before, now_ns);
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
        let index = if counted && !self.by_vcpu() {
            self.find_or_make(task, VCPU_UNKNOWN, event.cpu)
        } else {
            self.threads.find(task)
        };
        let Some(index) = index else {
            if counted && self.by_vcpu() {
                self.counters.unattributed += 1;
            } else if counted {
                self.counters.threads_full += 1;
            }
            return;
        };
        let Some(now_ns) = self.meet(index, event) else {
            return;
        };
        let Some(thread) = self.threads.at(index) else {
            return;
        };
        let mut over = None;
        let before = self.journal.before(thread);
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
            self.journal.over(thread, before, span, now_ns);
        } else {
            self.journal.within(thread, before, now_ns);
        }
        if settings.is_user != 0 {
            let before = self.journal.before(thread);
            thread.state.clock.user(now_ns);
            self.journal.within(thread, before, now_ns);
        }
        if let Some(span) = over {
            self.keep(index, &span, now_ns, event.cpu);
        }
    }

    fn on_switch(&mut self, task: Task, event: &Event<'_>) {
        if let Some((index, now_ns)) = self.find(task, event)
            && roles::read(event.raw, self.roles.prev_state) & WAITS == 0
            && let Some(thread) = self.threads.at(index)
        {
            thread.state.clock.switched_out(now_ns);
        }
        let next = roles::read_u32(event.raw, self.roles.next_tid);
        if let Some(index) = self.threads.find_tid(next)
            && let Some(now_ns) = self.meet(index, event)
            && let Some(thread) = self.threads.at(index)
        {
            let before = self.journal.before(thread);
            thread.state.clock.switched_in(now_ns);
            self.journal.within(thread, before, now_ns);
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
            None => self.counters.rows_full += 1,
        }
        let busy_ns = span.total_ns.saturating_sub(span.parts.halted_ns);
        if self.roles.settings.slow_ns != u64::MAX && busy_ns > self.roles.settings.slow_ns {
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
                &mut self.journal,
            );
        }
        self.journal.last(&thread, thread.seen_ns);
        self.rows.0 += thread.rows.len();
        for row in &mut thread.rows {
            let recent = recent(&row.stats, self.epoch);
            row.extremes.merge(recent);
            let totals = ExitTotals::of(&row.stats, row.extremes);
            let causes = row.causes.as_deref().map(Causes::from);
            self.departed
                .keep(&thread.state, row.key, &totals, recent, causes);
        }
        self.departed.keep_thread(&thread.state);
        if let Some(key) = thread.state.clock.open_key() {
            let open = ExitTotals::open();
            self.departed
                .keep(&thread.state, key, &open, MinMax::NONE, None);
        }
    }
}

impl ExitSource for Replay {
    type Error = Infallible;

    fn exits(&mut self, each: &mut dyn FnMut(&ThreadExits<'_>)) -> Result<ExitReading, Infallible> {
        Ok(Replay::exits(self, each))
    }
}
