//! One reading of all exits, as it goes from who reads to who shows.

use std::collections::{HashMap, HashSet};

use kvm_ebpf_common::Key;

use super::{ExitCounters, Scope};
use crate::{
    model::{ExitReading, EventKind, Loss, ThreadExits, VcpuId, VcpuTimes},
    view::{ExitGroups, KeyNames, exits::vcpu},
};

/// What a thread has counted under a key, without its histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadCounters {
    /// The vCPU; it goes by its index where that is known.
    pub vcpu_id: VcpuId,
    /// Why, or what.
    pub key: Key,
    /// How much, since the beginning.
    pub counters: ExitCounters,
    /// How many have no time.
    pub untimed: u64,
}

/// What a key is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    /// Its name.
    pub name: String,
    /// Is it that the guest has nothing to do?
    pub is_halt: bool,
}

/// Names that were not known before.
#[derive(Debug, Clone, Default)]
pub struct TopNames {
    /// VMs, by process.
    pub vms: HashMap<u32, String>,
    /// Keys.
    pub keys: HashMap<Key, KeyName>,
}

/// All exits at one moment: the finest numbers without histograms, and the histograms of what is looked at.
#[derive(Debug, Clone, Default)]
pub struct TopReading {
    /// When, in ns since the beginning; 0 until it is finished.
    pub time_ns: u64,
    /// In no order; there may be several of one vCPU and key.
    pub thread_counters: Vec<ThreadCounters>,
    /// The vCPUs.
    pub vcpus: Vec<VcpuTimes>,
    /// What is missing since the beginning.
    pub loss: Loss,
    /// What was looked at.
    pub scope: Scope,
    /// The same exits with their histograms, in the rows of the scope.
    pub groups: ExitGroups,
    /// Names.
    pub names: TopNames,
    kind: Option<EventKind>,
    /// Which tallies are of exits in progress: their vCPU and index.
    open: Vec<(VcpuId, usize)>,
}

impl TopReading {
    /// Nothing yet. `kind` is what is counted, if it is not exits by their reason.
    #[must_use]
    pub fn new(scope: Scope, kind: Option<&EventKind>) -> Self {
        Self {
            scope,
            groups: ExitGroups::new(&scope.groups(), kind),
            kind: kind.cloned(),
            ..Self::default()
        }
    }

    /// Takes in what a source hands over.
    pub fn add(&mut self, exits: &ThreadExits<'_>) {
        let vcpu_id = vcpu(exits.vcpu_id);
        let key = self
            .kind
            .as_ref()
            .map_or(exits.key, |kind| kind.normalize_key(exits.key));
        if self.scope.contains(vcpu_id, key) {
            self.groups.add(exits);
        }
        let totals = exits.totals;
        if totals.open > 0 {
            self.open.push((exits.vcpu_id, self.thread_counters.len()));
        }
        self.thread_counters.push(ThreadCounters {
            vcpu_id,
            key,
            counters: ExitCounters {
                count: totals.count,
                total_ns: totals.total_ns,
                vmm_ns: totals.vmm_ns,
                halted_ns: totals.halted_ns,
                preempted_ns: totals.preempted_ns,
                open_ns: 0,
            },
            untimed: totals.untimed,
        });
    }

    /// Takes in what else the reading says.
    #[must_use]
    pub fn finish(mut self, reading: ExitReading) -> Self {
        let open: HashMap<VcpuId, u64> = reading
            .vcpus
            .iter()
            .map(|times| (times.vcpu_id, times.open_ns))
            .collect();
        for (vcpu_id, index) in self.open.drain(..) {
            // A source says that one is open; how long it has been is the thread's to say.
            self.thread_counters[index].counters.open_ns = open.get(&vcpu_id).copied().unwrap_or(0);
        }
        self.time_ns = reading.time_ns;
        self.vcpus = reading.vcpus;
        self.loss = reading.loss;
        self
    }

    /// Looks up names of what has not been seen before; of VMs always, since a name may be learned late.
    pub fn add_names(
        &mut self,
        seen: &mut HashSet<Key>,
        names: &KeyNames<'_>,
        vm_name: &dyn Fn(u32) -> Option<String>,
    ) {
        // What is not there any more is forgotten here and by the ledger, and is named again when it comes back.
        let there: HashSet<Key> = self.thread_counters.iter().map(|it| it.key).collect();
        seen.retain(|key| there.contains(key));
        for tally in &self.thread_counters {
            if seen.insert(tally.key) {
                let name = KeyName {
                    name: names.name(tally.key),
                    is_halt: names.is_halt(tally.key),
                };
                self.names.keys.insert(tally.key, name);
            }
        }
        for times in &self.vcpus {
            let tgid = times.vcpu_id.tgid;
            if !self.names.vms.contains_key(&tgid)
                && let Some(name) = vm_name(tgid)
            {
                self.names.vms.insert(tgid, name);
            }
        }
    }

    /// Takes over the names of an older reading that nobody took. Keys are named only once; every reading has the names
    /// of all of its VMs.
    pub(super) fn inherit_names(&mut self, older: &Self) {
        for (key, name) in &older.names.keys {
            let name = || name.clone();
            self.names.keys.entry(*key).or_insert_with(name);
        }
    }

    /// Takes over the extremes of an older reading that nobody took: what was recent then is recent now.
    pub(super) fn inherit_extremes(&mut self, older: &Self) {
        if self.scope == older.scope {
            self.groups.inherit_extremes(&older.groups);
        }
    }
}
