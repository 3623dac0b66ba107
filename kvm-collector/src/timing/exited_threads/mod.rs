//! Exits of vCPU threads that have ended. They are stored here, so that the threads' table entries
//! can be reused.
//!
//! Memory is bounded: if a table is full, the VMs that ended first are merged into one aggregate.

use std::collections::{BTreeMap, HashSet, VecDeque};

use kvm_ebpf_common::{CAUSES_PER_ROW, Key, VCPU_UNKNOWN, VcpuThread};

use super::{
    RunningVcpus,
    vcpu_runs::{VcpuIndex, last_run_ns, shared_vcpu},
    vcpu_thread::emit_open_exit,
};
use crate::model::{
    Causes, ExitTotals, MinMax, ThreadExits, VcpuId, VcpuTimes,
    capacity::{MAX_EXITED_CAUSES, MAX_EXITED_ROWS, MAX_EXITED_VCPUS},
};

/// Maximum number of stored exits per vCPU that were in progress when their threads ended. Usually
/// there is one at most. Beyond the limit, the oldest ones are added to the rows.
const MAX_OPEN_EXITS_PER_VCPU: usize = 64;

#[derive(Debug)]
struct Row {
    totals: ExitTotals,
    /// Extremes of the threads that ended since the previous reading.
    recent: MinMax,
    causes: Option<Causes>,
}

/// Exits and guest times of threads that have ended, by vCPU.
#[derive(Debug, Default)]
pub(crate) struct ExitedThreads {
    /// Boxed, because a B-tree moves its values and leaves about half of its capacity empty.
    rows: BTreeMap<(VcpuId, Key), Box<Row>>,
    /// Time in the guest, by vCPU.
    guest_ns: BTreeMap<VcpuId, u64>,
    /// Exits that were in progress when their threads ended, by vCPU.
    open: BTreeMap<VcpuId, Vec<OpenExit>>,
    /// Number of exits in `open`.
    open_count: usize,
    /// When each vCPU was last entered or left by an exited thread.
    last_runs_ns: BTreeMap<VcpuIndex, u64>,
    /// Number of causes in all rows.
    causes: usize,
    /// Exits that are in no row because the table of rows is full.
    dropped_exits: u64,
    /// Open exits that have no duration after all, because another thread has run their vCPU.
    moved_exits: u64,
    /// VMs in the order in which their first thread ended.
    vm_order: VecDeque<u32>,
    /// The elements of `vm_order`.
    known_vms: HashSet<u32>,
}

/// An exit that was in progress when its thread ended.
#[derive(Debug)]
struct OpenExit {
    key: Key,
    /// When the thread last entered or left the vCPU.
    last_run_ns: u64,
    /// The vCPU, if another thread can run it.
    vcpu: Option<VcpuIndex>,
}

const MIN_VCPU_ID: VcpuId = VcpuId {
    tgid: 0,
    vcpu: 0,
    tid: 0,
};
const MAX_VCPU_ID: VcpuId = VcpuId {
    tgid: u32::MAX,
    vcpu: u32::MAX,
    tid: u32::MAX,
};

/// The aggregate of older VMs.
const OLDER_VMS: VcpuId = VcpuId {
    tgid: 0,
    vcpu: VCPU_UNKNOWN,
    tid: 0,
};

impl ExitedThreads {
    /// Adds a row of an exited thread.
    pub(crate) fn add_row(
        &mut self,
        thread: &VcpuThread,
        key: Key,
        totals: &ExitTotals,
        recent: MinMax,
        causes: Option<Causes>,
    ) {
        let vcpu_id = exited_vcpu_id(thread);
        self.reserve_for_vm(vcpu_id.tgid);
        self.add((vcpu_id, key), totals, recent, causes);
    }

    /// Frees capacity for data of a VM by merging the VMs that ended first.
    fn reserve_for_vm(&mut self, tgid: u32) {
        while self.is_full()
            && let Some(first) = self.vm_order.pop_front()
        {
            self.known_vms.remove(&first);
            self.merge_vm(first);
        }
        if self.known_vms.insert(tgid) {
            self.vm_order.push_back(tgid);
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MAX_EXITED_ROWS
            || self.guest_ns.len() >= MAX_EXITED_VCPUS
            || self.open_count >= MAX_EXITED_VCPUS
            || self.last_runs_ns.len() >= MAX_EXITED_VCPUS
            || self.causes >= MAX_EXITED_CAUSES
    }

    /// Adds an exit that was in progress when its thread ended.
    pub(crate) fn add_open_exit(&mut self, thread: &VcpuThread, key: Key) {
        let exit = OpenExit {
            key,
            last_run_ns: last_run_ns(thread),
            vcpu: shared_vcpu(thread),
        };
        let vcpu_id = exited_vcpu_id(thread);
        self.reserve_for_vm(vcpu_id.tgid);
        let exits = self.open.entry(vcpu_id).or_default();
        exits.push(exit);
        if exits.len() <= MAX_OPEN_EXITS_PER_VCPU {
            self.open_count += 1;
            return;
        }
        let first = exits.remove(0);
        self.add(
            (vcpu_id, first.key),
            &ExitTotals::one_in_progress(),
            MinMax::NONE,
            None,
        );
    }

    /// Counts open exits as moved if another thread has run their vCPU since. Checks all vCPUs if
    /// `only` is `None`.
    fn count_moved_exits(&mut self, only: Option<VcpuId>, running: &RunningVcpus) {
        let last_runs_ns = &self.last_runs_ns;
        let has_moved = |exit: &mut OpenExit| {
            running.has_run_since(exit.vcpu, exit.last_run_ns)
                || has_run_since(last_runs_ns, exit.vcpu, exit.last_run_ns)
        };
        let (first, last) = match only {
            Some(vcpu_id) => (vcpu_id, vcpu_id),
            None => (MIN_VCPU_ID, MAX_VCPU_ID),
        };
        let mut moved = Vec::new();
        for (vcpu_id, exits) in self.open.range_mut(first..=last) {
            moved.push((*vcpu_id, exits.extract_if(.., has_moved).collect()));
        }
        for (vcpu_id, exits) in moved {
            self.add_moved_exits(vcpu_id, exits);
            if self.open.get(&vcpu_id).is_some_and(Vec::is_empty) {
                self.open.remove(&vcpu_id);
            }
        }
    }

    fn add_moved_exits(&mut self, vcpu_id: VcpuId, moved: Vec<OpenExit>) {
        self.open_count -= moved.len();
        for exit in moved {
            self.moved_exits += 1;
            let totals = ExitTotals::one_untimed();
            self.add((vcpu_id, exit.key), &totals, MinMax::NONE, None);
        }
    }

    /// Returns the number of exits that have no duration because another thread entered their vCPU.
    pub(crate) fn moved_exits(&self) -> u64 {
        self.moved_exits
    }

    /// Returns the number of exits that are in no row because the table of rows is full.
    pub(crate) fn dropped_exits(&self) -> u64 {
        self.dropped_exits
    }

    /// Returns whether an exited thread has run the vCPU after `time_ns`.
    pub(super) fn has_run_since(&self, vcpu: Option<VcpuIndex>, time_ns: u64) -> bool {
        has_run_since(&self.last_runs_ns, vcpu, time_ns)
    }

    /// Adds an exited thread: its time in the guest, and when it last ran its vCPU.
    pub(crate) fn add_thread(&mut self, thread: &VcpuThread) {
        let id = exited_vcpu_id(thread);
        self.reserve_for_vm(id.tgid);
        self.add_guest_time(id, thread.clock.guest_ns);
        if let Some(vcpu) = shared_vcpu(thread) {
            let last_ns = self.last_runs_ns.entry(vcpu).or_default();
            *last_ns = last_run_ns(thread).max(*last_ns);
            self.count_moved_exits(Some(id), &RunningVcpus::default());
        }
    }

    fn add_guest_time(&mut self, vcpu_id: VcpuId, ns: u64) {
        let guest_ns = self.guest_ns.entry(vcpu_id).or_default();
        *guest_ns = guest_ns.saturating_add(ns);
    }

    fn add(
        &mut self,
        key: (VcpuId, Key),
        totals: &ExitTotals,
        recent: MinMax,
        causes: Option<Causes>,
    ) {
        if self.rows.len() >= MAX_EXITED_ROWS && !self.rows.contains_key(&key) {
            self.dropped_exits = self.dropped_exits.saturating_add(totals.count);
            return;
        }
        let row = self.rows.entry(key).or_insert_with(|| {
            Box::new(Row {
                totals: ExitTotals::default(),
                recent: MinMax::NONE,
                causes: None,
            })
        });
        row.totals.merge(totals);
        row.recent.merge(recent);
        if let Some(causes) = causes {
            let merged = row.causes.get_or_insert_default();
            self.causes -= merged.count();
            merged.merge(&causes);
            if self.causes >= MAX_EXITED_CAUSES {
                merged.retain_most_frequent(CAUSES_PER_ROW);
            }
            self.causes += merged.count();
        }
    }

    /// Merges a VM into the aggregate of older VMs.
    fn merge_vm(&mut self, tgid: u32) {
        let first = VcpuId {
            tgid,
            vcpu: 0,
            tid: 0,
        };
        let last = VcpuId {
            tgid,
            vcpu: u32::MAX,
            tid: u32::MAX,
        };
        let keys: Vec<_> = self
            .rows
            .range((first, Key::default())..)
            .take_while(|((vcpu_id, _), _)| vcpu_id.tgid == tgid)
            .map(|(key, _)| *key)
            .collect();
        let vcpus: Vec<_> = self
            .last_runs_ns
            .range((tgid, 0)..=(tgid, u32::MAX))
            .map(|(vcpu, _)| *vcpu)
            .collect();
        for vcpu in vcpus {
            self.last_runs_ns.remove(&vcpu);
        }
        for key in keys {
            if let Some(row) = self.rows.remove(&key) {
                self.causes -= row.causes.as_ref().map_or(0, Causes::count);
                self.add((OLDER_VMS, key.1), &row.totals, row.recent, row.causes);
            }
        }
        let open: Vec<_> = self.open.range(first..=last).map(|it| *it.0).collect();
        for vcpu_id in open {
            for exit in self.open.remove(&vcpu_id).unwrap_or_default() {
                self.open_count -= 1;
                let totals = ExitTotals::one_in_progress();
                self.add((OLDER_VMS, exit.key), &totals, MinMax::NONE, None);
            }
        }
        let threads: Vec<_> = self
            .guest_ns
            .range(first..=last)
            .map(|(vcpu_id, _)| *vcpu_id)
            .collect();
        for vcpu_id in threads {
            let guest_ns = self.guest_ns.remove(&vcpu_id).unwrap_or(0);
            self.add_guest_time(OLDER_VMS, guest_ns);
        }
    }

    /// Passes all rows and open exits to `each`, and starts a new interval for
    /// [`ThreadExits::recent`].
    pub(crate) fn read_rows(
        &mut self,
        running: &RunningVcpus,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) {
        self.count_moved_exits(None, running);
        for (vcpu_id, exits) in &self.open {
            for exit in exits {
                emit_open_exit(*vcpu_id, exit.key, false, each);
            }
        }
        for ((vcpu_id, key), row) in &mut self.rows {
            each(&ThreadExits {
                vcpu_id: *vcpu_id,
                key: *key,
                totals: &row.totals,
                recent: row.recent,
                causes: row.causes.as_ref(),
            });
            row.recent = MinMax::NONE;
        }
    }

    /// Resets the extremes and the causes of all rows.
    pub(crate) fn reset_extremes_and_causes(&mut self) {
        for row in self.rows.values_mut() {
            row.totals.extremes = MinMax::NONE;
            row.recent = MinMax::NONE;
            row.causes = None;
        }
        self.causes = 0;
    }

    /// Iterates over the guest times of all exited threads.
    pub(crate) fn vcpu_times(&self) -> impl Iterator<Item = VcpuTimes> {
        self.guest_ns.iter().map(|(vcpu_id, guest_ns)| VcpuTimes {
            vcpu_id: *vcpu_id,
            guest_ns: *guest_ns,
            open_ns: 0,
            has_ended: true,
        })
    }
}

fn has_run_since(
    last_runs_ns: &BTreeMap<VcpuIndex, u64>,
    vcpu: Option<VcpuIndex>,
    time_ns: u64,
) -> bool {
    let last_ns = vcpu.and_then(|vcpu| last_runs_ns.get(&vcpu));
    last_ns.is_some_and(|last_ns| *last_ns > time_ns)
}

/// Returns the id under which an exited thread is stored: its vCPU index if that is known,
/// otherwise its thread id.
fn exited_vcpu_id(thread: &VcpuThread) -> VcpuId {
    VcpuId {
        tgid: thread.tgid(),
        vcpu: thread.vcpu,
        tid: if thread.vcpu == VCPU_UNKNOWN {
            thread.tid()
        } else {
            0
        },
    }
}

#[cfg(test)]
mod tests;
