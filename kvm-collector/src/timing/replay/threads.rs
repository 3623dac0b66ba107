//! vCPU threads with their rows, found by their numbers: at once, as long as no other thread's number
//! has the same last bits.

use std::collections::HashMap;

use kvm_ebpf_common::{
    CauseTable, ExitStats, Key, NearRow, PairingCounters, VCPU_UNKNOWN,
    VcpuThread, near_row,
};

use crate::model::MinMax;

/// Last bits of threads' numbers of which it is remembered who had them last.
const NEAR_TIDS: usize = 1024;

/// A process and a thread in one number, as in [`VcpuThread::task`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task(pub(super) u64);

impl Task {
    pub(super) fn new(tgid: u32, tid: u32) -> Self {
        Self(u64::from(tgid) << 32 | u64::from(tid))
    }

    fn tid(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(0)
    }
}

/// What a thread's spans of one key add up to.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: Key,
    pub(super) stats: ExitStats,
    /// Up to the last reading.
    pub(super) extremes: MinMax,
    pub(super) causes: Option<Box<CauseTable>>,
}

/// A vCPU's thread.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) state: VcpuThread,
    /// When it was seen last.
    pub(super) seen_ns: u64,
    /// And on which CPU.
    pub(super) cpu: u32,
    /// How many marks of lost events there were then.
    pub(super) marks: u64,
    /// For the segment_log: since when it has been in user space, whatever else happened since.
    pub(super) vmm_began_ns: u64,
    /// For the segment_log: where the guest was when it was left.
    pub(super) guest_rip: u64,
    #[expect(
        clippy::vec_box,
        reason = "a row has 2.6 KB, which is not to be moved, nor to be kept twice as room to grow"
    )]
    pub(super) rows: Vec<Box<Row>>,
    places: HashMap<Key, u32>,
}

impl Thread {
    fn new(task: Task, vcpu: u32, cpu: u32, marks: u64) -> Self {
        Self {
            state: VcpuThread::new(task.0, vcpu),
            seen_ns: 0,
            cpu,
            marks,
            vmm_began_ns: 0,
            guest_rip: 0,
            rows: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// The row of a key; `None` when there is none, and no room for another.
    #[inline]
    pub(super) fn row(&mut self, key: &Key, rows: &mut Room) -> Option<&mut Row> {
        let near = &mut self.state.near[near_row(key)];
        let mut index = near.row;
        if index == 0 || near.code != key.code || near.class != key.class {
            index = match self.places.get(key) {
                Some(index) => *index,
                None if !rows.take() => return None,
                None => {
                    self.rows.push(Box::new(Row {
                        key: *key,
                        stats: ExitStats::EMPTY,
                        extremes: MinMax::NONE,
                        causes: None,
                    }));
                    let index = u32::try_from(self.rows.len()).ok()?;
                    self.places.insert(*key, index);
                    index
                }
            };
            *near = NearRow {
                code: key.code,
                class: key.class,
                row: index,
            };
        }
        self.rows.get_mut(index as usize - 1).map(Box::as_mut)
    }
}

/// How many more there may be.
#[derive(Debug)]
pub(super) struct Room {
    free: usize,
    /// There may be any at all.
    is_used: bool,
}

impl Room {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            free: capacity,
            is_used: capacity > 0,
        }
    }

    fn take(&mut self) -> bool {
        let is_room = self.free > 0;
        self.free -= usize::from(is_room);
        is_room
    }

    pub(super) fn give_back(&mut self, number: usize) {
        self.free += number;
    }

    /// A row found no room: that is a loss, unless nobody wants rows.
    pub(super) fn count_full(&self, counters: &mut PairingCounters) {
        counters.rows_full += u64::from(self.is_used);
    }
}

/// What [`Threads::find_or_make`] found or made.
#[derive(Debug)]
pub(super) struct ThreadEntry {
    /// Where the thread is; `None` when there is no room for another one.
    pub(super) index: Option<u32>,
    /// The thread that had its number until now.
    pub(super) before: Option<Box<Thread>>,
    /// It is known only now which vCPU the thread runs.
    pub(super) is_vcpu_new: bool,
}

/// All threads that have not ended.
#[derive(Debug)]
pub(super) struct Threads {
    threads: Vec<Option<Box<Thread>>>,
    free: Vec<u32>,
    of_tid: HashMap<u32, u32>,
    near: Vec<u32>,
    room: Room,
}

impl Threads {
    pub(super) fn new(most: usize) -> Self {
        Self {
            threads: Vec::new(),
            free: Vec::new(),
            of_tid: HashMap::new(),
            near: vec![u32::MAX; NEAR_TIDS],
            room: Room::new(most),
        }
    }

    /// The place of a thread, if it is known to be a vCPU's.
    #[inline]
    pub(super) fn find(&mut self, task: Task) -> Option<u32> {
        let near = task.tid() as usize % NEAR_TIDS;
        if self.is_at(self.near[near], task) {
            return Some(self.near[near]);
        }
        let index = self
            .find_tid(task.tid())
            .filter(|index| self.is_at(*index, task))?;
        self.near[near] = index;
        Some(index)
    }

    /// The place of whatever thread has this number.
    pub(super) fn find_tid(&self, tid: u32) -> Option<u32> {
        self.of_tid.get(&tid).copied()
    }

    #[inline]
    fn is_at(&self, index: u32, task: Task) -> bool {
        let thread = self.threads.get(index as usize);
        thread
            .and_then(Option::as_ref)
            .is_some_and(|it| it.state.task == task.0)
    }

    #[inline]
    pub(super) fn at(&mut self, index: u32) -> Option<&mut Thread> {
        let thread = self.threads.get_mut(index as usize)?;
        thread.as_deref_mut()
    }

    /// Finds a thread that runs a vCPU, or makes an entry for it. The thread that had its number until now, and has
    /// ended or runs another vCPU, is removed.
    #[inline(always)]
    pub(super) fn find_or_make(
        &mut self,
        task: Task,
        vcpu: u32,
        cpu: u32,
        marks: u64,
    ) -> ThreadEntry {
        if let Some(index) = self.find(task)
            && let Some(thread) = self.at(index)
        {
            let state = &mut thread.state;
            let is_vcpu_new = state.vcpu == VCPU_UNKNOWN && vcpu != VCPU_UNKNOWN;
            if is_vcpu_new {
                state.vcpu = vcpu;
            }
            if vcpu == VCPU_UNKNOWN || state.vcpu == vcpu {
                return ThreadEntry {
                    index: Some(index),
                    before: None,
                    is_vcpu_new,
                };
            }
        }
        self.make(task, vcpu, cpu, marks)
    }

    #[cold]
    fn make(&mut self, task: Task, vcpu: u32, cpu: u32, marks: u64) -> ThreadEntry {
        let before = self.end_tid(task.tid());
        if !self.room.take() {
            return ThreadEntry {
                index: None,
                before,
                is_vcpu_new: false,
            };
        }
        let mut thread = Box::new(Thread::new(task, vcpu, cpu, marks));
        if let Some(before) = &before {
            // Time does not go back for a thread, whichever vCPU it runs.
            thread.seen_ns = before.seen_ns;
        }
        let thread = Some(thread);
        let index = match self.free.pop() {
            Some(index) => {
                self.threads[index as usize] = thread;
                index
            }
            None => {
                self.threads.push(thread);
                u32::try_from(self.threads.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.of_tid.insert(task.tid(), index);
        ThreadEntry {
            index: Some(index),
            before,
            is_vcpu_new: vcpu != VCPU_UNKNOWN,
        }
    }

    /// Removes a thread.
    pub(super) fn end(&mut self, task: Task) -> Option<Box<Thread>> {
        let index = self.find_tid(task.tid())?;
        match self.is_at(index, task) {
            true => self.end_tid(task.tid()),
            false => None,
        }
    }

    /// Removes whatever thread has this number.
    pub(super) fn end_tid(&mut self, tid: u32) -> Option<Box<Thread>> {
        let index = self.of_tid.remove(&tid)?;
        let thread = self.threads.get_mut(index as usize)?.take();
        self.free.push(index);
        self.room.give_back(1);
        thread
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Thread> {
        self.threads.iter_mut().flatten().map(Box::as_mut)
    }
}
