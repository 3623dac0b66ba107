//! The table of vCPU threads, with the rows of each thread.
//!
//! A cache that is indexed by the low bits of the thread id saves most hash lookups.

use std::collections::HashMap;

use kvm_ebpf_common::{
    CachedRow, CauseTable, ExitStats, Key, VCPU_UNKNOWN, VcpuThread, row_cache_index,
};

use super::capacity::Capacity;
use crate::model::MinMax;

/// Entries of the cache of threads by thread id.
const TID_CACHE_ENTRIES: usize = 1024;

/// The ids of a process and a thread in one number, as in [`VcpuThread::task`].
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

/// The sums of a thread's exits with one key.
#[derive(Debug)]
pub(super) struct ReplayRow {
    /// The exit reason, or the code of the counted event.
    pub(super) key: Key,
    /// Count, times and histogram.
    pub(super) stats: ExitStats,
    /// Extremes up to the previous reading.
    pub(super) extremes: MinMax,
    /// The most frequent causes, if causes are requested.
    pub(super) causes: Option<Box<CauseTable>>,
}

/// A vCPU thread, with its rows.
#[derive(Debug)]
pub(super) struct ReplayThread {
    /// The state, of the same type as in the tables of the eBPF programs.
    pub(super) state: VcpuThread,
    /// The time of its last event.
    pub(super) seen_ns: u64,
    /// The CPU of its last event.
    pub(super) cpu: u32,
    /// The number of loss markers at its last event.
    pub(super) markers_seen: u64,
    /// For the segment log: when the thread last returned to the VMM. Preemptions do not change it.
    pub(super) vmm_start_ns: u64,
    /// For the segment log: the guest's instruction pointer at the last exit.
    pub(super) guest_rip: u64,
    #[expect(
        clippy::vec_box,
        reason = "a row has 2.6 KB: it should not be moved, nor reserved in advance when the vector grows"
    )]
    pub(super) rows: Vec<Box<ReplayRow>>,
    /// By key: the index in `rows` plus 1, as in [`CachedRow::row`], where 0 marks an empty entry.
    row_indices: HashMap<Key, u32>,
}

impl ReplayThread {
    fn new(task: Task, vcpu: u32, cpu: u32, markers_seen: u64) -> Self {
        Self {
            state: VcpuThread::new(task.0, vcpu),
            seen_ns: 0,
            cpu,
            markers_seen,
            vmm_start_ns: 0,
            guest_rip: 0,
            rows: Vec::new(),
            row_indices: HashMap::new(),
        }
    }

    /// Returns the row of a key, which is added if needed. `None` if the table of rows is full.
    #[inline]
    pub(super) fn row_mut(&mut self, key: &Key, rows: &mut Capacity) -> Option<&mut ReplayRow> {
        let cached = &mut self.state.row_cache[row_cache_index(key)];
        let mut index = cached.row;
        if index == 0 || cached.code != key.code || cached.subcode != key.subcode {
            index = match self.row_indices.get(key) {
                Some(index) => *index,
                None if !rows.try_reserve() => return None,
                None => {
                    self.rows.push(Box::new(ReplayRow {
                        key: *key,
                        stats: ExitStats::EMPTY,
                        extremes: MinMax::NONE,
                        causes: None,
                    }));
                    let index = u32::try_from(self.rows.len()).ok()?;
                    self.row_indices.insert(*key, index);
                    index
                }
            };
            *cached = CachedRow {
                code: key.code,
                subcode: key.subcode,
                row: index,
            };
        }
        self.rows.get_mut(index as usize - 1).map(Box::as_mut)
    }
}

/// The result of [`Threads::find_or_insert`].
#[derive(Debug)]
pub(super) struct ThreadLookup {
    /// The thread's index; `None` if the table is full.
    pub(super) index: Option<u32>,
    /// The thread that had this number until now.
    pub(super) replaced: Option<Box<ReplayThread>>,
    /// Whether the thread's vCPU has only now become known.
    pub(super) is_vcpu_new: bool,
}

/// The table of running vCPU threads.
#[derive(Debug)]
pub(super) struct Threads {
    threads: Vec<Option<Box<ReplayThread>>>,
    /// Indices of unused entries.
    free: Vec<u32>,
    /// Indices by thread id.
    by_tid: HashMap<u32, u32>,
    /// Cached indices, by the low bits of the thread id.
    tid_cache: Vec<u32>,
    capacity: Capacity,
}

impl Threads {
    /// Creates a table for up to `max_threads` threads.
    pub(super) fn new(max_threads: usize) -> Self {
        Self {
            threads: Vec::new(),
            free: Vec::new(),
            by_tid: HashMap::new(),
            tid_cache: vec![u32::MAX; TID_CACHE_ENTRIES],
            capacity: Capacity::new(max_threads),
        }
    }

    /// Returns the index of a thread; `None` if it is not known as a vCPU thread.
    #[inline]
    pub(super) fn find(&mut self, task: Task) -> Option<u32> {
        let slot = task.tid() as usize % TID_CACHE_ENTRIES;
        if self.is_at(self.tid_cache[slot], task) {
            return Some(self.tid_cache[slot]);
        }
        let index = self
            .find_tid(task.tid())
            .filter(|index| self.is_at(*index, task))?;
        self.tid_cache[slot] = index;
        Some(index)
    }

    /// Returns the index of the thread with this number, whatever its process.
    pub(super) fn find_tid(&self, tid: u32) -> Option<u32> {
        self.by_tid.get(&tid).copied()
    }

    #[inline]
    fn is_at(&self, index: u32, task: Task) -> bool {
        let thread = self.threads.get(index as usize);
        thread
            .and_then(Option::as_ref)
            .is_some_and(|it| it.state.task == task.0)
    }

    /// Returns the thread at an index.
    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut ReplayThread> {
        let thread = self.threads.get_mut(index as usize)?;
        thread.as_deref_mut()
    }

    /// Finds the entry of a thread that runs a vCPU, or adds one. Removes an entry with the same
    /// thread id if that thread has ended or has run another vCPU.
    #[inline(always)]
    pub(super) fn find_or_insert(
        &mut self,
        task: Task,
        vcpu: u32,
        cpu: u32,
        markers_seen: u64,
    ) -> ThreadLookup {
        if let Some(index) = self.find(task)
            && let Some(thread) = self.get_mut(index)
        {
            let state = &mut thread.state;
            let is_vcpu_new = state.vcpu == VCPU_UNKNOWN && vcpu != VCPU_UNKNOWN;
            if is_vcpu_new {
                state.vcpu = vcpu;
            }
            if vcpu == VCPU_UNKNOWN || state.vcpu == vcpu {
                return ThreadLookup {
                    index: Some(index),
                    replaced: None,
                    is_vcpu_new,
                };
            }
        }
        self.insert(task, vcpu, cpu, markers_seen)
    }

    #[cold]
    fn insert(&mut self, task: Task, vcpu: u32, cpu: u32, markers_seen: u64) -> ThreadLookup {
        let replaced = self.remove_tid(task.tid());
        if !self.capacity.try_reserve() {
            return ThreadLookup {
                index: None,
                replaced,
                is_vcpu_new: false,
            };
        }
        let mut thread = Box::new(ReplayThread::new(task, vcpu, cpu, markers_seen));
        if let Some(replaced) = &replaced {
            // The time of a thread must not go back when it runs another vCPU.
            thread.seen_ns = replaced.seen_ns;
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
        self.by_tid.insert(task.tid(), index);
        ThreadLookup {
            index: Some(index),
            replaced,
            is_vcpu_new: vcpu != VCPU_UNKNOWN,
        }
    }

    /// Removes and returns a thread.
    pub(super) fn remove(&mut self, task: Task) -> Option<Box<ReplayThread>> {
        let index = self.find_tid(task.tid())?;
        match self.is_at(index, task) {
            true => self.remove_tid(task.tid()),
            false => None,
        }
    }

    /// Removes and returns the thread with this number, whatever its process.
    pub(super) fn remove_tid(&mut self, tid: u32) -> Option<Box<ReplayThread>> {
        let index = self.by_tid.remove(&tid)?;
        let thread = self.threads.get_mut(index as usize)?.take();
        self.free.push(index);
        self.capacity.release(1);
        thread
    }

    /// Iterates over all threads.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ReplayThread> {
        self.threads.iter_mut().flatten().map(Box::as_mut)
    }
}
