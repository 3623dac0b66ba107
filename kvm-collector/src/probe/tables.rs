//! The tables of vCPU threads and their exits, in memory that is shared with the eBPF programs.
//!
//! User space frees the entries of ended threads, because it must read them before.

use std::{mem::offset_of, sync::atomic::Ordering};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapError, Stack},
};
use kvm_ebpf_common::{CauseTable, Row, RowKey, VcpuThread};

use super::{ProbeError, mapped::MappedArray, thread_table::ThreadTable};

/// The tables of vCPU threads, of their exit rows, and of the causes of each row.
#[derive(Debug)]
pub(super) struct ExitTables {
    pub(super) threads: ThreadTable<VcpuThread>,
    rows: MappedArray<Row>,
    causes: MappedArray<CauseTable>,
}

impl ExitTables {
    pub(super) fn open(ebpf: &Ebpf) -> Result<Self, ProbeError> {
        Ok(Self {
            threads: ThreadTable::open(ebpf, "VCPU_THREADS")?,
            rows: MappedArray::open(ebpf, "ROWS")?,
            causes: MappedArray::open(ebpf, "CAUSES")?,
        })
    }

    /// Returns the rows of a thread with their indices, the newest first.
    pub(super) fn rows(&self, thread: u32) -> impl Iterator<Item = (usize, Row)> {
        let first = self.threads.word(thread, offset_of!(VcpuThread, first_row));
        let mut next = first.load(Ordering::Acquire);
        let mut left = self.rows.len();
        std::iter::from_fn(move || {
            // The limit ends a list that is a cycle, which only damaged memory can be.
            left = left.checked_sub(1)?;
            let index = usize::try_from(next).ok()?.checked_sub(1)?;
            let row = (index < self.rows.len()).then(|| self.rows.read(index))?;
            next = row.next;
            Some((index, row))
        })
    }

    /// Returns the causes of a row; `None` if they were not requested.
    pub(super) fn causes(&self, row: usize) -> Option<CauseTable> {
        (row < self.causes.len() && self.causes.len() == self.rows.len())
            .then(|| self.causes.read(row))
    }

    /// Discards what is in progress in the threads of a process: an exit, or time in the guest.
    ///
    /// No program may change the threads of this process at the same time.
    #[cfg(feature = "test-api")]
    pub(super) fn discard_open_intervals(&mut self, tgid: u32) {
        for index in self.threads.entries.used() {
            let task = self.threads.word(index, offset_of!(VcpuThread, task));
            let task = task.load(Ordering::Acquire);
            if task >> 32 == u64::from(tgid) {
                for offset in [
                    offset_of!(VcpuThread, clock.exit_ns),
                    offset_of!(VcpuThread, clock.guest_since_ns),
                    offset_of!(VcpuThread, clock.vmm_since_ns),
                ] {
                    let word = self.threads.word(index, offset);
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// Frees the entry of a thread that has ended, and its rows.
    ///
    /// Only a program for the final `sched_switch` of the thread can still use the entry. It stores at most the time of the
    /// switch, which the first exit of the entry's next thread overwrites.
    pub(super) fn free(&mut self, ebpf: &mut Ebpf, index: u32) -> Result<(), ProbeError> {
        let thread = self.threads.thread(index);
        remove_if_index(ebpf, "VCPU_THREAD_BY_TID", thread.tid(), index)?;
        let rows: Vec<_> = self
            .rows(index)
            .map(|(index, row)| (index, row.key))
            .collect();
        for (row, key) in &rows {
            let key = RowKey {
                thread: u64::from(index),
                key: *key,
            };
            remove(ebpf, "ROW_BY_KEY", &key)?;
            self.rows.clear(*row);
            if self.causes.len() == self.rows.len() {
                self.causes.clear(*row);
            }
        }
        let rows = rows.iter().filter_map(|(row, _)| u32::try_from(*row).ok());
        push(ebpf, "FREE_ROWS", rows)?;
        self.threads.clear(index);
        push(ebpf, "FREE_VCPU_THREADS", [index])
    }
}

/// Pushes all indices on a stack of free indices, with index 0 on top.
pub(super) fn push_all_indices(
    ebpf: &mut Ebpf,
    name: &'static str,
    len: u32,
) -> Result<(), ProbeError> {
    push(ebpf, name, (0..len).rev())
}

/// Pushes indices on a stack of free indices.
pub(super) fn push(
    ebpf: &mut Ebpf,
    name: &'static str,
    indices: impl IntoIterator<Item = u32>,
) -> Result<(), ProbeError> {
    let failed = |source| ProbeError::Map { name, source };
    let mut stack: Stack<_, u32> = Stack::try_from(map_mut(ebpf, name)?).map_err(failed)?;
    for index in indices {
        stack.push(index, 0).map_err(failed)?;
    }
    Ok(())
}

/// Removes a thread id from a table of indices if it has this index. A new thread with the same id has another one.
pub(super) fn remove_if_index(
    ebpf: &mut Ebpf,
    name: &'static str,
    tid: u32,
    index: u32,
) -> Result<(), ProbeError> {
    let failed = |source| ProbeError::Map { name, source };
    let map: HashMap<_, u32, u32> = HashMap::try_from(map_mut(ebpf, name)?).map_err(failed)?;
    match map.get(&tid, 0) {
        Ok(found) if found == index => remove(ebpf, name, &tid),
        Ok(_) | Err(MapError::KeyNotFound) => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// Removes a key from a map.
fn remove<K: aya::Pod>(ebpf: &mut Ebpf, name: &'static str, key: &K) -> Result<(), ProbeError> {
    HashMap::try_from(map_mut(ebpf, name)?)
        .and_then(|mut map: HashMap<_, K, u32>| map.remove(key))
        .map_err(|source| ProbeError::Map { name, source })
}

fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Map, ProbeError> {
    ebpf.map_mut(name)
        .ok_or_else(|| ProbeError::Missing(name.to_owned()))
}
