//! Reading the counters and tables that the programs keep.

use aya::maps::{Map, MapData, PerCpuArray};
use kvm_ebpf_common::{
    CauseTable, PairingCounters, Row, RowKey, SlotCounts, SlotTable, ThreadSlot, VcpuThread,
};

use super::{Attached, ProbeError, batch};

/// Counts of one thread in one slot.
pub type ThreadCount = (ThreadSlot, SlotCounts);

impl Attached {
    /// Counters per slot, summed over CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn slot_counts(&self) -> Result<Vec<SlotCounts>, ProbeError> {
        let mut sums = vec![SlotCounts::default(); self.events];
        for table in self.per_cpu::<SlotTable>("SLOT_COUNTS")?.iter() {
            for (sum, cpu) in sums.iter_mut().zip(&table.slots) {
                sum.seen += cpu.seen;
                sum.lost += cpu.lost;
                sum.unattributed += cpu.unattributed;
            }
        }
        Ok(sums)
    }

    /// Counters per thread and slot; empty unless asked for.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn thread_counts(&self) -> Result<Vec<ThreadCount>, ProbeError> {
        self.hash("THREAD_COUNTS")
    }

    /// vCPU threads that have left a guest, with their indices, and those that have ended and were not
    /// given back yet; none unless it has to be known which threads are vCPUs'.
    pub fn vcpu_threads(&mut self) -> Vec<(u64, VcpuThread)> {
        let Some(tables) = &mut self.tables else {
            return Vec::new();
        };
        tables.look();
        tables.threads().collect()
    }

    /// Hands over the rows of exits of those threads whose index is wanted, with the rows' own indices, and
    /// with their causes if those were asked for.
    pub fn exit_rows(
        &mut self,
        wanted: impl Fn(u64) -> bool,
        mut each: impl FnMut(usize, &Row, Option<CauseTable>),
    ) {
        if let Some(tables) = &mut self.tables {
            tables.look();
            for (index, row) in tables.rows(wanted) {
                each(index, &row, tables.causes(index));
            }
        }
    }

    /// Gives back the places of threads that have ended, and of their rows.
    ///
    /// # Errors
    /// When the kernel half cannot be told.
    pub fn give_back(
        &mut self,
        threads: &[u64],
        rows: &[(usize, RowKey)],
    ) -> Result<(), ProbeError> {
        let Some(tables) = &mut self.tables else {
            return Ok(());
        };
        for (index, key) in rows {
            tables.free_row(&mut self.ebpf, *index, key)?;
        }
        for index in threads {
            tables.free_thread(&mut self.ebpf, *index)?;
        }
        Ok(())
    }

    /// What could not be counted properly, summed over CPUs.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn pairing_counters(&self) -> Result<PairingCounters, ProbeError> {
        let mut sum = PairingCounters::default();
        for cpu in self.per_cpu::<PairingCounters>("PAIRING_COUNTERS")?.iter() {
            sum.unmatched += cpu.unmatched;
            sum.rows_full += cpu.rows_full;
            sum.threads_full += cpu.threads_full;
            sum.unattributed += cpu.unattributed;
            sum.slow_lost += cpu.slow_lost;
            sum.moved += cpu.moved;
        }
        Ok(sum)
    }

    fn per_cpu<T: aya::Pod>(
        &self,
        name: &'static str,
    ) -> Result<aya::maps::PerCpuValues<T>, ProbeError> {
        let map = self
            .ebpf
            .map(name)
            .ok_or_else(|| ProbeError::Missing(name.to_owned()))?;
        PerCpuArray::try_from(map)
            .and_then(|array: PerCpuArray<_, T>| array.get(&0, 0))
            .map_err(|source| ProbeError::Map { name, source })
    }

    pub(super) fn hash<K: aya::Pod, V: aya::Pod>(
        &self,
        name: &'static str,
    ) -> Result<Vec<(K, V)>, ProbeError> {
        let data: &MapData = match self.ebpf.map(name) {
            Some(Map::HashMap(data)) => data,
            _ => return Err(ProbeError::Missing(name.to_owned())),
        };
        batch::read(data).map_err(|source| ProbeError::Batch { name, source })
    }
}
