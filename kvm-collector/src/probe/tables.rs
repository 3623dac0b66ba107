//! The tables of exits, read in place: they are part of this process's memory, so that reading them
//! takes no system call and no time to speak of.
//!
//! What belongs to a thread that has ended is given back here: the kernel half cannot, and nobody but
//! the thread itself writes there otherwise.

use std::mem::offset_of;

use aya::{
    Ebpf,
    maps::{HashMap, Map, Stack},
};
use kvm_ebpf_common::{CauseTable, Row, RowKey, VcpuThread};

use super::{ProbeError, mapped::Mapped};

/// The tables of exits.
#[derive(Debug)]
pub(super) struct Tables {
    threads: Mapped<VcpuThread>,
    rows: Mapped<Row>,
    causes: Mapped<CauseTable>,
    /// Which threads and rows are in use has to be looked for; these have been, so far.
    threads_used: usize,
    rows_used: usize,
}

impl Tables {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, ProbeError> {
        Ok(Self {
            threads: Mapped::of(ebpf, "THREADS")?,
            rows: Mapped::of(ebpf, "ROWS")?,
            causes: Mapped::of(ebpf, "CAUSES")?,
            threads_used: 0,
            rows_used: 0,
        })
    }

    /// Looks how far the tables are used. Places are taken from the first on, those given back before
    /// new ones.
    pub(super) fn look(&mut self) {
        while self.threads_used < self.threads.len() && self.thread_is_used(self.threads_used) {
            self.threads_used += 1;
        }
        while self.rows_used < self.rows.len() && self.thread_of_row(self.rows_used) != 0 {
            self.rows_used += 1;
        }
    }

    fn thread_is_used(&self, index: usize) -> bool {
        self.threads.word(index, offset_of!(VcpuThread, was)) != 0
    }

    /// The index of a row's thread, and 1; 0 for a row not in use.
    fn thread_of_row(&self, index: usize) -> u64 {
        self.rows.word(index, offset_of!(Row, thread))
    }

    /// All vCPU threads, as far as was looked, with their indices.
    pub(super) fn threads(&self) -> impl Iterator<Item = (u64, VcpuThread)> {
        (0..self.threads_used)
            .filter(|index| self.thread_is_used(*index))
            .map(|index| (index as u64, self.threads.read(index)))
    }

    /// The rows, as far as was looked, of threads whose index is wanted, with their own indices.
    pub(super) fn rows(&self, wanted: impl Fn(u64) -> bool) -> impl Iterator<Item = (usize, Row)> {
        let is_wanted = move |index: &usize| {
            let thread = self.thread_of_row(*index).checked_sub(1);
            thread.is_some_and(&wanted)
        };
        (0..self.rows_used)
            .filter(is_wanted)
            .map(|index| (index, self.rows.read(index)))
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
    pub(super) fn interrupt(&mut self, tgid: u32) {
        self.look();
        for index in 0..self.threads_used {
            let task = self.threads.word(index, offset_of!(VcpuThread, task));
            if task >> 32 == u64::from(tgid) {
                for offset in [
                    offset_of!(VcpuThread, clock.exit_ns),
                    offset_of!(VcpuThread, clock.guest_since_ns),
                    offset_of!(VcpuThread, clock.vmm_since_ns),
                ] {
                    self.threads.set_word(index, offset, 0);
                }
            }
        }
    }

    /// Gives back the place of a thread that has ended.
    pub(super) fn free_thread(&mut self, ebpf: &mut Ebpf, index: u64) -> Result<(), ProbeError> {
        let place = u32::try_from(index).unwrap_or(u32::MAX);
        self.threads.clear(place as usize);
        push(ebpf, "FREE_THREADS", [place])
    }

    /// Gives back the row of a thread that has ended.
    pub(super) fn free_row(
        &mut self,
        ebpf: &mut Ebpf,
        index: usize,
        key: &RowKey,
    ) -> Result<(), ProbeError> {
        const NAME: &str = "ROW_OF";
        HashMap::try_from(map_mut(ebpf, NAME)?)
            .and_then(|mut map: HashMap<_, RowKey, u32>| map.remove(key))
            .map_err(|source| ProbeError::Map { name: NAME, source })?;
        self.rows.clear(index);
        if self.causes.len() == self.rows.len() {
            self.causes.clear(index);
        }
        push(
            ebpf,
            "FREE_ROWS",
            [u32::try_from(index).unwrap_or(u32::MAX)],
        )
    }
}

/// Puts all places into a stack of free ones, the first one on top.
pub(super) fn free_all(ebpf: &mut Ebpf, name: &'static str, len: u32) -> Result<(), ProbeError> {
    push(ebpf, name, (0..len).rev())
}

fn push(
    ebpf: &mut Ebpf,
    name: &'static str,
    places: impl IntoIterator<Item = u32>,
) -> Result<(), ProbeError> {
    let failed = |source| ProbeError::Map { name, source };
    let mut stack: Stack<_, u32> = Stack::try_from(map_mut(ebpf, name)?).map_err(failed)?;
    for place in places {
        stack.push(place, 0).map_err(failed)?;
    }
    Ok(())
}

fn map_mut<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Map, ProbeError> {
    ebpf.map_mut(name)
        .ok_or_else(|| ProbeError::Missing(name.to_owned()))
}
