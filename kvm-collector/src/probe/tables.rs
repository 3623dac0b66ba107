//! The tables of vCPU threads and their exits, read without a system call: they are part of this process's memory.
//!
//! Entries of threads that have ended are freed here: the eBPF programs cannot do that, since user space has to read
//! them before.

use std::{mem::offset_of, sync::atomic::Ordering};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapError, Stack},
};
use kvm_ebpf_common::{CauseTable, Row, RowKey, VcpuThread};

use super::{ProbeError, mapped::MappedArray, thread_table::ThreadTable};

/// The tables of exits.
#[derive(Debug)]
pub(super) struct ExitTables {
    pub(super) threads: ThreadTable<VcpuThread>,
    rows: MappedArray<Row>,
    causes: MappedArray<CauseTable>,
}

impl ExitTables {
    pub(super) fn open(ebpf: &Ebpf) -> Result<Self, ProbeError> {
        Ok(Self {
            threads: ThreadTable::of(ebpf, "VCPU_THREADS")?,
            rows: MappedArray::open(ebpf, "ROWS")?,
            causes: MappedArray::open(ebpf, "CAUSES")?,
        })
    }

    /// The rows of a thread, with their indices: the newest first.
    pub(super) fn rows(&self, thread: u32) -> impl Iterator<Item = (usize, Row)> {
        let first = self.threads.word(thread, offset_of!(VcpuThread, first_row));
        let mut next = first.load(Ordering::Acquire);
        let mut left = self.rows.len();
        std::iter::from_fn(move || {
            // The list ends before a row comes twice, also in damaged memory.
            left = left.checked_sub(1)?;
            let index = usize::try_from(next).ok()?.checked_sub(1)?;
            let row = (index < self.rows.len()).then(|| self.rows.read(index))?;
            next = row.next;
            Some((index, row))
        })
    }

    /// The causes under a row; `None` if they were not asked for.
    pub(super) fn causes(&self, row: usize) -> Option<CauseTable> {
        (row < self.causes.len() && self.causes.len() == self.rows.len())
            .then(|| self.causes.read(row))
    }

    #[cfg(feature = "test-api")]
    /// Makes the programs forget what is in progress in a process's threads: an exit, or the time in the guest.
    ///
    /// They must not run for this process meanwhile.
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

    /// Frees the entry of a thread in which nothing happens any more, and its rows.
    ///
    /// A program that still has the entry can only be one for `sched_switch` from the thread. At most it stores when that
    /// was, which the first exit of the entry's next thread sets again.
    pub(super) fn free(&mut self, ebpf: &mut Ebpf, index: u32) -> Result<(), ProbeError> {
        let thread = self.threads.thread(index);
        remove_if(ebpf, "VCPU_THREAD_BY_TID", thread.tid(), index)?;
        let rows: Vec<_> = self.rows(index).map(|(row, it)| (row, it.key)).collect();
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

/// Puts all indices into a stack of free ones, the first one on top.
pub(super) fn push_all_indices(
    ebpf: &mut Ebpf,
    name: &'static str,
    len: u32,
) -> Result<(), ProbeError> {
    push(ebpf, name, (0..len).rev())
}

/// Puts indices into a stack of free ones.
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

/// Removes a tid from a table of indices, if it still leads to this one and not to that of a newer thread.
pub(super) fn remove_if(
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

/// Removes a key.
fn remove<K: aya::Pod>(ebpf: &mut Ebpf, name: &'static str, key: &K) -> Result<(), ProbeError> {
    HashMap::try_from(map_mut(ebpf, name)?)
        .and_then(|mut map: HashMap<_, K, u32>| map.remove(key))
        .map_err(|source| ProbeError::Map { name, source })
}

fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Map, ProbeError> {
    ebpf.map_mut(name)
        .ok_or_else(|| ProbeError::Missing(name.to_owned()))
}
