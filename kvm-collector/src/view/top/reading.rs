//! One reading of all exits, passed from the thread that reads to the thread that draws.

use std::collections::{HashMap, HashSet};

use kvm_ebpf_common::{Key, VCPU_UNKNOWN};

use super::{ExitCounters, Scope, breakdown::subtract};
use crate::{
    host::{IdleVm, VcpuActivity},
    model::{EventKind, ExitReading, Loss, ThreadExits, VcpuId, VcpuTimes},
    view::{ExitGroups, KeyNames, exits::normalize_vcpu_id},
};

/// Cumulative counters of one thread's exits with one key, without their histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadCounters {
    /// The vCPU; its `tid` is 0 if the vCPU index is known.
    pub vcpu_id: VcpuId,
    /// The exit reason, or the key of the counted event.
    pub key: Key,
    /// The counters since the start of the measurement.
    pub counters: ExitCounters,
    /// Number of exits without a duration.
    pub untimed: u64,
}

/// The name of a key, and whether the key is a halt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName {
    /// The exit reason, or the label of the counted event with its known name.
    pub name: String,
    /// Whether the guest has nothing to do during these exits.
    pub is_halt: bool,
}

/// Names of VMs and keys.
#[derive(Debug, Clone, Default)]
pub struct TopNames {
    /// VM names by TGID of the VMM.
    pub vms: HashMap<u32, String>,
    /// Key names. A reading has only those that no earlier reading had.
    pub keys: HashMap<Key, KeyName>,
}

/// Cumulative counters of all exits at one point in time.
///
/// Only the exits in the selected scope have histograms.
#[derive(Debug, Clone, Default)]
pub struct TopReading {
    /// Time of the reading, in ns since the start of the measurement; 0 until [`TopReading::finish`].
    pub time_ns: u64,
    /// Counters by thread and key, in any order. A vCPU that several threads ran has several
    /// entries per key.
    pub thread_counters: Vec<ThreadCounters>,
    /// Guest time and time of the exit in progress, by vCPU thread.
    pub vcpus: Vec<VcpuTimes>,
    /// Losses since the start of the measurement.
    pub loss: Loss,
    /// The scope that was selected at the time of the reading.
    pub scope: Scope,
    /// The exits in the scope with their histograms, grouped as the scope's rows.
    pub groups: ExitGroups,
    /// Names of all VMs and vCPUs, and of keys that no earlier reading had.
    pub names: TopNames,
    /// The vCPUs of running VMs that made no exits since the previous reading, with what they do.
    pub idle_vcpus: Vec<(VcpuId, VcpuActivity)>,
    /// Why `idle_vcpus` is not known, if that is so.
    pub idle_failure: Option<String>,
    kind: Option<EventKind>,
    /// Threads with an exit in progress, with its index in `thread_counters`.
    open: Vec<(VcpuId, usize)>,
}

impl TopReading {
    /// Creates an empty reading. `kind` is the counted kind of event, or `None` for exit reasons.
    #[must_use]
    pub fn new(scope: Scope, kind: Option<&EventKind>) -> Self {
        Self {
            scope,
            groups: ExitGroups::new(&scope.groups(), kind),
            kind: kind.cloned(),
            ..Self::default()
        }
    }

    /// Adds exits of one thread with one key.
    pub fn add(&mut self, exits: &ThreadExits<'_>) {
        let vcpu_id = normalize_vcpu_id(exits.vcpu_id);
        let key = self
            .kind
            .as_ref()
            .map_or(exits.key, |kind| kind.normalize_key(exits.key));
        if self.scope.contains(vcpu_id, key) {
            // The groups are only for histograms. Idle times are those of the rows.
            self.groups.add_exits(exits, |_| false);
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

    /// Adds the rest of the source's reading: its time, the vCPUs' times and the losses.
    #[must_use]
    pub fn finish(mut self, reading: ExitReading) -> Self {
        let open: HashMap<VcpuId, u64> = reading
            .vcpus
            .iter()
            .map(|times| (times.vcpu_id, times.open_ns))
            .collect();
        for (vcpu_id, index) in self.open.drain(..) {
            // The source reports the time of an exit in progress per thread, not per key.
            self.thread_counters[index].counters.open_ns = open.get(&vcpu_id).copied().unwrap_or(0);
        }
        self.time_ns = reading.time_ns;
        self.vcpus = reading.vcpus;
        self.loss = reading.loss;
        self
    }

    /// Removes what was measured before the requested range of a recording: `before` is a reading of the same scope at its start.
    /// vCPUs that had ended by then are left out.
    pub fn subtract_before_range(&mut self, before: &Self) {
        self.groups = self.groups.since_range_start(&before.groups);
        // Several threads can have counters of one vCPU and key.
        let mut counters: HashMap<(VcpuId, Key), (ExitCounters, u64)> = HashMap::new();
        for it in &before.thread_counters {
            let (sum, untimed) = counters.entry((it.vcpu_id, it.key)).or_default();
            sum.merge(&it.counters);
            *untimed = untimed.saturating_add(it.untimed);
        }
        for it in &mut self.thread_counters {
            if let Some((rest, untimed)) = counters.get_mut(&(it.vcpu_id, it.key)) {
                it.counters.subtract(rest);
                subtract(&mut it.untimed, untimed);
            }
        }
        let is_left =
            |it: &ThreadCounters| it.counters != ExitCounters::default() || it.untimed > 0;
        self.thread_counters.retain(is_left);
        let mut guest_ns: HashMap<VcpuId, (u64, bool)> = HashMap::new();
        for times in &before.vcpus {
            let (sum, has_ended) = guest_ns.entry(times.vcpu_id).or_insert((0, true));
            *sum = sum.saturating_add(times.guest_ns);
            *has_ended &= times.has_ended;
        }
        for times in &mut self.vcpus {
            if let Some((rest, _)) = guest_ns.get_mut(&times.vcpu_id) {
                subtract(&mut times.guest_ns, rest);
            }
        }
        self.vcpus.retain(|times| {
            let had_ended = guest_ns.get(&times.vcpu_id).is_some_and(|it| it.1);
            !(had_ended && times.has_ended && times.guest_ns == 0)
        });
    }

    /// Makes this the only reading of a measurement: it covers the whole time, so vCPUs count even if they have ended by its
    /// end.
    pub fn cover_whole_time(&mut self) {
        for times in &mut self.vcpus {
            times.has_ended = false;
        }
    }

    /// Adds the names of keys that are not in `seen`, and adds these keys to `seen`.
    ///
    /// Names of VMs are always added, because a VM may get its name late.
    pub fn add_names(
        &mut self,
        seen: &mut HashSet<Key>,
        names: &KeyNames<'_>,
        vm_name: &dyn Fn(u32) -> Option<String>,
    ) {
        // `ReadingHistory` removes the names of absent keys, so a key that returns needs its name again.
        let present: HashSet<Key> = self.thread_counters.iter().map(|it| it.key).collect();
        seen.retain(|key| present.contains(key));
        for counters in &self.thread_counters {
            if seen.insert(counters.key) {
                let name = KeyName {
                    name: names.full_name(counters.key),
                    is_halt: names.is_halt(counters.key),
                };
                self.names.keys.insert(counters.key, name);
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

    /// Adds a VM that made no exits since the previous reading. `tgid` is its process id, which exits would have.
    pub fn add_idle_vm(&mut self, tgid: u32, vm: &IdleVm) {
        for idle in &vm.vcpus {
            let is_same = |times: &&VcpuTimes| {
                let known = times.vcpu_id;
                known.tgid == tgid && (known.tid == idle.tid || Some(known.vcpu) == idle.vcpu)
            };
            let known = self.vcpus.iter().find(is_same).map(|it| it.vcpu_id);
            let vcpu_id = known.unwrap_or(VcpuId {
                tgid,
                vcpu: idle.vcpu.unwrap_or(VCPU_UNKNOWN),
                tid: idle.tid,
            });
            let vcpu_id = normalize_vcpu_id(vcpu_id);
            self.idle_vcpus.push((vcpu_id, idle.state));
        }
        let name = || vm.vm.clone();
        self.names.vms.entry(tgid).or_insert_with(name);
    }

    /// Returns the number of exits since the start, by process id.
    #[must_use]
    pub fn exits_by_process(&self) -> HashMap<u32, u64> {
        let mut exits = HashMap::new();
        for row in &self.thread_counters {
            let count: &mut u64 = exits.entry(row.vcpu_id.tgid).or_default();
            *count = count.saturating_add(row.counters.count);
        }
        exits
    }

    /// Adds the key names of an older reading that this one replaces.
    ///
    /// Only the first reading with a key has its name. VM names are in every reading.
    pub(super) fn inherit_names(&mut self, older: &Self) {
        for (key, name) in &older.names.keys {
            let name = || name.clone();
            self.names.keys.entry(*key).or_insert_with(name);
        }
    }

    /// Merges the recent extremes of an older reading that this one replaces.
    pub(super) fn inherit_extremes(&mut self, older: &Self) {
        if self.scope == older.scope {
            self.groups.inherit_extremes(&older.groups);
        }
    }
}
