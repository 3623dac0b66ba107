//! Reading the counters and tables that the programs keep.

use aya::maps::{Map, MapData, PerCpuArray};
use kvm_ebpf_common::{
    ExitKey, ExitStats, PairingCounters, SlotCounts, SlotTable, ThreadSlot, ThreadState,
};

use super::{Attached, ProbeError, batch};

/// Counts of one thread in one slot.
pub type ThreadCount = (ThreadSlot, SlotCounts);

/// The exit tables at one moment.
#[derive(Debug, Clone, Default)]
pub struct Exits {
    /// Totals per (thread, vCPU, isa, reason).
    pub rows: Vec<(ExitKey, ExitStats)>,
    /// What could not be counted properly, summed over CPUs.
    pub counters: PairingCounters,
    /// Exits whose entry has not come yet.
    pub open: Vec<ExitKey>,
}

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

    /// The exit tables; empty unless asked for.
    ///
    /// # Errors
    /// When a map cannot be read.
    pub fn exits(&self) -> Result<Exits, ProbeError> {
        let rows = self.hash::<ExitKey, ExitStats>("EXITS")?;
        let open = self
            .hash::<u32, ThreadState>("THREADS")?
            .into_iter()
            .filter(|(_, state)| state.exit_ns != 0)
            .map(|(tid, state)| ExitKey {
                tgid: state.tgid,
                tid,
                vcpu: state.vcpu,
                isa: state.isa,
                reason: state.reason,
            })
            .collect();
        let mut counters = PairingCounters::default();
        for cpu in self.per_cpu::<PairingCounters>("PAIRING_COUNTERS")?.iter() {
            counters.unmatched += cpu.unmatched;
            counters.rows_full += cpu.rows_full;
            counters.threads_full += cpu.threads_full;
            counters.unattributed += cpu.unattributed;
        }
        Ok(Exits {
            rows,
            counters,
            open,
        })
    }

    /// The processes that have had a VM exit.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn exit_processes(&self) -> Result<Vec<u32>, ProbeError> {
        let threads = self.hash::<u32, ThreadState>("THREADS")?;
        Ok(threads.iter().map(|(_, state)| state.tgid).collect())
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

    fn hash<K: aya::Pod, V: aya::Pod>(
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
