//! Reads the counters and tables of the programs.

use std::sync::atomic::Ordering;

use aya::maps::PerCpuArray;
use kvm_ebpf_common::{
    COUNTED_THREAD_ADDED, COUNTED_THREAD_ENDED, CauseTable, Row, SlotCounts, SlotTable,
    ThreadNotification, TimingCounters, VCPU_THREAD_ADDED, VCPU_THREAD_ENDED, VcpuThread,
};

use super::{AttachedPrograms, ProbeError};

impl AttachedPrograms {
    /// Returns the counters of each slot, summed over CPUs.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub fn slot_counts(&self) -> Result<Vec<SlotCounts>, ProbeError> {
        if self.is_raw {
            return self.raw_slot_counts();
        }
        let mut sums = vec![SlotCounts::default(); self.events];
        for cpu in 0..self.slot_counts.len() {
            let words = self.slot_counts.value_words(cpu).chunks_exact(3);
            for (sum, words) in sums.iter_mut().zip(words) {
                let counts =
                    [&words[0], &words[1], &words[2]].map(|word| word.load(Ordering::Relaxed));
                add_counts(sum, &zerocopy::transmute!(counts));
            }
        }
        Ok(sums)
    }

    fn raw_slot_counts(&self) -> Result<Vec<SlotCounts>, ProbeError> {
        const NAME: &str = "RAW_SLOT_COUNTS";
        let map = self.ebpf.map(NAME);
        let map = map.ok_or_else(|| ProbeError::Missing(NAME.to_owned()))?;
        let tables = PerCpuArray::try_from(map)
            .and_then(|array: PerCpuArray<_, SlotTable>| array.get(&0, 0))
            .map_err(|source| ProbeError::Map { name: NAME, source })?;
        let mut sums = vec![SlotCounts::default(); self.events];
        for table in tables.iter() {
            for (sum, counts) in sums.iter_mut().zip(&table.slots) {
                add_counts(sum, counts);
            }
        }
        Ok(sums)
    }

    /// Returns the counters of what could not be counted or timed, summed over CPUs.
    #[must_use]
    pub fn timing_counters(&self) -> TimingCounters {
        let mut sum = TimingCounters::default();
        for cpu in 0..self.timing_counters.len() {
            let cpu = self.timing_counters.read(cpu);
            sum.unmatched += cpu.unmatched;
            sum.rows_full += cpu.rows_full;
            sum.threads_full += cpu.threads_full;
            sum.unattributed += cpu.unattributed;
            sum.slow_lost += cpu.slow_lost;
            sum.moved += cpu.moved;
            sum.interrupted += cpu.interrupted;
            sum.notifications_lost += cpu.notifications_lost;
        }
        sum
    }

    /// Reads the notifications since the latest call. Returns those of threads that are new in a table. A thread may be in
    /// two tables. A name may be missing (all zeros) if notifications were lost.
    pub fn read_notifications(&mut self) -> Vec<ThreadNotification> {
        let mut new = Vec::new();
        let Some(notifications) = &mut self.notifications else {
            return new;
        };
        while let Some(notification) = notifications.next() {
            match (notification.kind, &mut self.tables, &mut self.counted) {
                (VCPU_THREAD_ADDED, Some(tables), _) => {
                    new.extend(tables.threads.add(&notification).then_some(notification));
                }
                (VCPU_THREAD_ENDED, Some(tables), _) => tables.threads.mark_ended(&notification),
                (COUNTED_THREAD_ADDED, _, Some(counted)) => {
                    new.extend(counted.threads.add(&notification).then_some(notification));
                }
                (COUNTED_THREAD_ENDED, _, Some(counted)) => {
                    counted.threads.mark_ended(&notification)
                }
                _ => {}
            }
        }
        self.search_after_lost_notifications(&mut new);
        new
    }

    /// Searches the tables if notifications were lost.
    fn search_after_lost_notifications(&mut self, new: &mut Vec<ThreadNotification>) {
        let lost = self.timing_counters().notifications_lost;
        if !self
            .notifications
            .as_mut()
            .is_some_and(|notifications| notifications.has_new_losses(lost))
        {
            return;
        }
        log::debug!("{lost} notifications of threads were lost: searching the tables");
        if let Some(tables) = &mut self.tables {
            new.extend(tables.threads.search(VCPU_THREAD_ADDED));
        }
        if let Some(counted) = &mut self.counted {
            new.extend(counted.threads.search(COUNTED_THREAD_ADDED));
        }
    }

    /// Checks the next batch of threads that are not known to have ended, and marks those that have. An event in a thread
    /// after its end was notified may have given it a new entry. `has_ended` returns whether a thread (process id, thread id)
    /// has ended.
    pub fn mark_ended_threads(&mut self, has_ended: impl Fn(u32, u32) -> bool) {
        if let Some(tables) = &mut self.tables {
            tables.threads.mark_ended_batch(&has_ended);
        }
        if let Some(counted) = &mut self.counted {
            counted.threads.mark_ended_batch(&has_ended);
        }
    }

    /// Returns the entries of vCPU threads and their indices, including ended threads until they are freed. It is the state
    /// of the latest [`AttachedPrograms::read_notifications`]. Empty if the programs do not track vCPU threads.
    pub fn vcpu_threads(&self) -> impl Iterator<Item = (u32, VcpuThread)> {
        let tables = self.tables.iter();
        tables.flat_map(|tables| {
            tables
                .threads
                .entries
                .used()
                .map(|index| (index, tables.threads.thread(index)))
        })
    }

    /// Like [`AttachedPrograms::vcpu_threads`], but only the threads that have ended.
    pub fn ended_vcpu_threads(&self) -> impl Iterator<Item = (u32, VcpuThread)> {
        let tables = self.tables.iter();
        tables.flat_map(|tables| {
            tables
                .threads
                .entries
                .ended()
                .map(|index| (index, tables.threads.thread(index)))
        })
    }

    /// Returns the exit rows of a vCPU thread: index, row, and causes if requested.
    pub fn exit_rows(&self, thread: u32) -> impl Iterator<Item = (usize, Row, Option<CauseTable>)> {
        let tables = self.tables.iter();
        tables.flat_map(move |tables| {
            let rows = tables.rows(thread);
            rows.map(|(index, row)| (index, row, tables.causes(index)))
        })
    }

    /// Frees the entry of a vCPU thread that has ended, and its rows.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn free_vcpu_thread(&mut self, index: u32) -> Result<(), ProbeError> {
        match &mut self.tables {
            Some(tables) => tables.free(&mut self.ebpf, index),
            None => Ok(()),
        }
    }

    /// Returns the threads with event counts of their own, like [`AttachedPrograms::vcpu_threads`].
    pub fn counted_threads(&self) -> impl Iterator<Item = CountedThreadEntry> {
        let counted = self.counted.iter();
        counted.flat_map(|counted| {
            counted
                .threads
                .entries
                .used()
                .map(|index| counted_thread_entry(index, counted.threads.thread(index)))
        })
    }

    /// Like [`AttachedPrograms::counted_threads`], but only the threads that have ended.
    pub fn ended_counted_threads(&self) -> impl Iterator<Item = CountedThreadEntry> {
        let counted = self.counted.iter();
        counted.flat_map(|counted| {
            counted
                .threads
                .entries
                .ended()
                .map(|index| counted_thread_entry(index, counted.threads.thread(index)))
        })
    }

    /// Returns the number of events in a counted thread, by slot.
    pub fn thread_counts(&self, index: u32) -> impl Iterator<Item = u64> {
        let counted = self.counted.iter();
        counted.flat_map(move |counted| counted.counts(index))
    }

    /// Frees the entry of a counted thread that has ended.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn free_counted_thread(&mut self, index: u32) -> Result<(), ProbeError> {
        match &mut self.counted {
            Some(counted) => counted.free(&mut self.ebpf, index),
            None => Ok(()),
        }
    }
}

fn add_counts(sum: &mut SlotCounts, counts: &SlotCounts) {
    sum.seen += counts.seen;
    sum.lost += counts.lost;
    sum.unattributed += counts.unattributed;
}

/// A thread with event counts of its own.
#[derive(Debug, Clone, Copy)]
pub struct CountedThreadEntry {
    /// Index of its entry.
    pub index: u32,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
}

fn counted_thread_entry(index: u32, thread: kvm_ebpf_common::CountedThread) -> CountedThreadEntry {
    CountedThreadEntry {
        index,
        tgid: thread.tgid(),
        tid: thread.tid(),
    }
}
