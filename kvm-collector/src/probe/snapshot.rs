//! Reading the counters and tables that the programs keep.

use std::sync::atomic::Ordering;

use aya::maps::PerCpuArray;
use kvm_ebpf_common::{
    COUNTED_THREAD_ADDED, COUNTED_THREAD_ENDED, CauseTable, Row, SlotCounts, SlotTable,
    ThreadNotification, TimingCounters, VCPU_THREAD_ADDED, VCPU_THREAD_ENDED, VcpuThread,
};

use super::{AttachedPrograms, ProbeError};

impl AttachedPrograms {
    /// Counters per slot, summed over CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn slot_counts(&self) -> Result<Vec<SlotCounts>, ProbeError> {
        if self.is_raw {
            return self.raw_slot_counts();
        }
        let mut sums = vec![SlotCounts::default(); self.events];
        for cpu in 0..self.slot_counts.len() {
            let words = self.slot_counts.value_words(cpu).chunks_exact(3);
            for (sum, words) in sums.iter_mut().zip(words) {
                let counts = [&words[0], &words[1], &words[2]].map(|it| it.load(Ordering::Relaxed));
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

    /// What could not be counted properly, summed over CPUs.
    #[must_use]
    pub fn timing_counters(&self) -> TimingCounters {
        let mut sum = TimingCounters::default();
        for cpu in 0..self.pairing_counters.len() {
            let cpu = self.pairing_counters.read(cpu);
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

    /// Reads which threads have come and gone since the last call. Returns those that are new in a table; a thread may be
    /// in two tables, and a name may be missing (all zeros) where notices were lost.
    pub fn read_notifications(&mut self) -> Vec<ThreadNotification> {
        let mut new = Vec::new();
        let Some(notices) = &mut self.notices else {
            return new;
        };
        while let Some(notice) = notices.next() {
            match (notice.kind, &mut self.tables, &mut self.counted) {
                (VCPU_THREAD_ADDED, Some(tables), _) => {
                    new.extend(tables.threads.begin(&notice).then_some(notice));
                }
                (VCPU_THREAD_ENDED, Some(tables), _) => tables.threads.end(&notice),
                (COUNTED_THREAD_ADDED, _, Some(counted)) => {
                    new.extend(counted.threads.begin(&notice).then_some(notice));
                }
                (COUNTED_THREAD_ENDED, _, Some(counted)) => counted.threads.end(&notice),
                _ => {}
            }
        }
        self.search_after_lost_notifications(&mut new);
        new
    }

    /// Searches the tables if notices were lost.
    fn search_after_lost_notifications(&mut self, new: &mut Vec<ThreadNotification>) {
        let lost = self.timing_counters().notifications_lost;
        if !self
            .notices
            .as_mut()
            .is_some_and(|it| it.has_new_losses(lost))
        {
            return;
        }
        log::debug!("{lost} notices of threads were lost: searching the tables");
        if let Some(tables) = &mut self.tables {
            new.extend(tables.threads.search(VCPU_THREAD_ADDED));
        }
        if let Some(counted) = &mut self.counted {
            new.extend(counted.threads.search(COUNTED_THREAD_ADDED));
        }
    }

    /// Looks at some threads that are not known to have ended, others with each call: what happened in a thread after it had
    /// ended may have given it an entry. `is_gone` says whether a thread of a process is.
    pub fn mark_gone_threads_ended(&mut self, is_gone: impl Fn(u32, u32) -> bool) {
        if let Some(tables) = &mut self.tables {
            tables.threads.end_gone(&is_gone);
        }
        if let Some(counted) = &mut self.counted {
            counted.threads.end_gone(&is_gone);
        }
    }

    /// The entries of vCPU threads that have left a guest, with their indices, and those that have ended and were not
    /// freed yet; as of the last [`AttachedPrograms::read_notices`]. None unless it has to be known which threads are vCPUs'.
    pub fn vcpu_threads(&self) -> impl Iterator<Item = (u32, VcpuThread)> {
        let tables = self.tables.iter();
        tables.flat_map(|tables| {
            tables
                .threads
                .entries
                .used()
                .map(|it| (it, tables.threads.thread(it)))
        })
    }

    /// As [`AttachedPrograms::vcpu_threads`], of those that have ended.
    pub fn ended_vcpu_threads(&self) -> impl Iterator<Item = (u32, VcpuThread)> {
        let tables = self.tables.iter();
        tables.flat_map(|tables| {
            tables
                .threads
                .entries
                .ended()
                .map(|it| (it, tables.threads.thread(it)))
        })
    }

    /// The rows of a vCPU thread's exits, with their own indices, and with their causes if those were requested.
    pub fn exit_rows(&self, thread: u32) -> impl Iterator<Item = (usize, Row, Option<CauseTable>)> {
        let tables = self.tables.iter();
        tables.flat_map(move |tables| {
            let rows = tables.rows(thread);
            rows.map(|(index, row)| (index, row, tables.causes(index)))
        })
    }

    /// Frees the entry of a vCPU thread in which nothing happens any more, and its rows.
    ///
    /// # Errors
    /// When a map cannot be written.
    pub fn free_vcpu_thread(&mut self, index: u32) -> Result<(), ProbeError> {
        match &mut self.tables {
            Some(tables) => tables.free(&mut self.ebpf, index),
            None => Ok(()),
        }
    }

    /// The threads whose events are counted by themselves, with the indices of their entries; as
    /// [`AttachedPrograms::vcpu_threads`].
    pub fn counted_threads(&self) -> impl Iterator<Item = CountedThreadEntry> {
        let counted = self.counted.iter();
        counted.flat_map(|counted| {
            counted
                .threads
                .entries
                .used()
                .map(|it| counted_thread_entry(it, counted.threads.thread(it)))
        })
    }

    /// As [`AttachedPrograms::counted_threads`], of those that have ended.
    pub fn ended_counted_threads(&self) -> impl Iterator<Item = CountedThreadEntry> {
        let counted = self.counted.iter();
        counted.flat_map(|counted| {
            counted
                .threads
                .entries
                .ended()
                .map(|it| counted_thread_entry(it, counted.threads.thread(it)))
        })
    }

    /// How often each event has happened in a counted thread, by slot.
    pub fn thread_counts(&self, index: u32) -> impl Iterator<Item = u64> {
        let counted = self.counted.iter();
        counted.flat_map(move |counted| counted.counts(index))
    }

    /// Frees the entry of a counted thread that is gone.
    ///
    /// # Errors
    /// When a map cannot be written.
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

/// A thread whose events are counted by themselves.
#[derive(Debug, Clone, Copy)]
pub struct CountedThreadEntry {
    /// Its entry.
    pub index: u32,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
}

fn counted_thread_entry(index: u32, thread: kvm_ebpf_common::CountedThread) -> CountedThreadEntry {
    CountedThreadEntry {
        index,
        tgid: thread.tgid(),
        tid: thread.tid(),
    }
}
