//! What vCPU threads that have ended had counted: kept once, while the kernel half uses their places
//! again.

use std::collections::{BTreeMap, HashSet, VecDeque};

use kvm_ebpf_common::{CAUSES, Key, VCPU_UNKNOWN, VcpuThread};

use super::{
    RunningVcpus,
    turns::{Vcpu, last_turn_ns, pass_on_open, vcpu_of},
};
use crate::model::{
    Causes, ExitTotals, MinMax, ThreadExits, VcpuId, VcpuTimes,
    capacity::{MOST_EXITED, MOST_EXITED_CAUSES, MOST_EXITED_ROWS},
};

/// Exits of one vCPU that were in progress when their threads ended, at most: only the last one can be.
const MOST_OPEN_OF_VCPU: usize = 64;

#[derive(Debug)]
struct Row {
    totals: ExitTotals,
    /// Of what ended since the last reading.
    recent: MinMax,
    causes: Option<Causes>,
}

/// Exits of threads that have ended.
#[derive(Debug, Default)]
pub(crate) struct ExitedThreads {
    /// On the heap one by one: a tree moves what it holds, and has half of its nodes empty.
    rows: BTreeMap<(VcpuId, Key), Box<Row>>,
    guest_ns: BTreeMap<VcpuId, u64>,
    /// Exits that were in progress when their threads ended, by vCPU.
    open: BTreeMap<VcpuId, Vec<OpenExit>>,
    /// How many there are of these.
    open_count: usize,
    /// When each vCPU was last entered or left, by threads that have ended.
    last_turns_ns: BTreeMap<Vcpu, u64>,
    /// Causes in all rows.
    causes: usize,
    /// Exits that are in no row, since there is no room for another one.
    full: u64,
    /// Of the open exits, those that turned out to have no time, since another thread ran their vCPU.
    moved: u64,
    /// VMs in the order in which they were seen to end.
    order: VecDeque<u32>,
    /// The same, to look up.
    ended: HashSet<u32>,
}

/// An exit that was in progress when its thread ended.
#[derive(Debug)]
struct OpenExit {
    key: Key,
    /// When the thread was last seen to leave the vCPU.
    last_turn_ns: u64,
    /// The vCPU, if another thread may run it.
    vcpu: Option<Vcpu>,
}

/// The first and the last there can be.
const FIRST_VCPU: VcpuId = VcpuId {
    tgid: 0,
    vcpu: 0,
    tid: 0,
};
const LAST_VCPU: VcpuId = VcpuId {
    tgid: u32::MAX,
    vcpu: u32::MAX,
    tid: u32::MAX,
};

/// All VMs that ended long ago.
const LONG_AGO: VcpuId = VcpuId {
    tgid: 0,
    vcpu: VCPU_UNKNOWN,
    tid: 0,
};

impl ExitedThreads {
    /// Keeps what a thread had counted under a key.
    pub(crate) fn keep(
        &mut self,
        thread: &VcpuThread,
        key: Key,
        totals: &ExitTotals,
        recent: MinMax,
        causes: Option<Causes>,
    ) {
        let vcpu_id = vcpu_id(thread);
        self.make_room_for(vcpu_id.tgid);
        self.add((vcpu_id, key), totals, recent, causes);
    }

    /// Makes room for something of a VM: merges those that ended first, as long as there is none.
    fn make_room_for(&mut self, tgid: u32) {
        while self.is_full()
            && let Some(first) = self.order.pop_front()
        {
            self.ended.remove(&first);
            self.merge_vm(first);
        }
        if self.ended.insert(tgid) {
            self.order.push_back(tgid);
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MOST_EXITED_ROWS
            || self.guest_ns.len() >= MOST_EXITED
            || self.open_count >= MOST_EXITED
            || self.last_turns_ns.len() >= MOST_EXITED
            || self.causes >= MOST_EXITED_CAUSES
    }

    /// Keeps an exit that was in progress when its thread ended.
    pub(crate) fn keep_open(&mut self, thread: &VcpuThread, key: Key) {
        let exit = OpenExit {
            key,
            last_turn_ns: last_turn_ns(thread),
            vcpu: vcpu_of(thread),
        };
        let vcpu_id = vcpu_id(thread);
        self.make_room_for(vcpu_id.tgid);
        let exits = self.open.entry(vcpu_id).or_default();
        exits.push(exit);
        if exits.len() <= MOST_OPEN_OF_VCPU {
            self.open_count += 1;
            return;
        }
        let first = exits.remove(0);
        self.add(
            (vcpu_id, first.key),
            &ExitTotals::open(),
            MinMax::NONE,
            None,
        );
    }

    /// Counts exits as moved whose vCPU has been run by another thread since.
    fn find_moved(&mut self, of: Option<VcpuId>, running: &RunningVcpus) {
        let last_turns_ns = &self.last_turns_ns;
        let has_moved = |exit: &mut OpenExit| {
            running.has_run_since(exit.vcpu, exit.last_turn_ns)
                || has_run_since(last_turns_ns, exit.vcpu, exit.last_turn_ns)
        };
        let (first, last) = match of {
            Some(vcpu_id) => (vcpu_id, vcpu_id),
            None => (FIRST_VCPU, LAST_VCPU),
        };
        let mut moved = Vec::new();
        for (vcpu_id, exits) in self.open.range_mut(first..=last) {
            moved.push((*vcpu_id, exits.extract_if(.., has_moved).collect()));
        }
        for (vcpu_id, exits) in moved {
            self.keep_moved(vcpu_id, exits);
            if self.open.get(&vcpu_id).is_some_and(Vec::is_empty) {
                self.open.remove(&vcpu_id);
            }
        }
    }

    fn keep_moved(&mut self, vcpu_id: VcpuId, moved: Vec<OpenExit>) {
        self.open_count -= moved.len();
        for exit in moved {
            self.moved += 1;
            let totals = ExitTotals::untimed();
            self.add((vcpu_id, exit.key), &totals, MinMax::NONE, None);
        }
    }

    /// Exits of ended threads that have no time, since another thread entered their vCPU.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Exits of ended threads that are in no row, since there is no room for another one.
    pub(crate) fn full(&self) -> u64 {
        self.full
    }

    /// Has a thread that has ended run a vCPU since an exit began in another thread?
    pub(super) fn has_run_since(&self, vcpu: Option<Vcpu>, exit_ns: u64) -> bool {
        has_run_since(&self.last_turns_ns, vcpu, exit_ns)
    }

    /// Keeps how long a thread was in the guest, in all.
    pub(crate) fn keep_thread(&mut self, thread: &VcpuThread) {
        let id = vcpu_id(thread);
        self.make_room_for(id.tgid);
        self.add_guest_time(id, thread.clock.guest_ns);
        if let Some(vcpu) = vcpu_of(thread) {
            let last_ns = self.last_turns_ns.entry(vcpu).or_default();
            *last_ns = last_turn_ns(thread).max(*last_ns);
            self.find_moved(Some(id), &RunningVcpus::default());
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
        if self.rows.len() >= MOST_EXITED_ROWS && !self.rows.contains_key(&key) {
            self.full = self.full.saturating_add(totals.count);
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
            let to = row.causes.get_or_insert_default();
            self.causes -= to.count();
            to.merge(&causes);
            if self.causes >= MOST_EXITED_CAUSES {
                to.keep_most_frequent(CAUSES);
            }
            self.causes += to.count();
        }
    }

    /// Merges a VM into those that ended earlier.
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
        let of_vm: Vec<_> = self
            .rows
            .range((first, Key::default())..)
            .take_while(|((vcpu_id, _), _)| vcpu_id.tgid == tgid)
            .map(|(key, _)| *key)
            .collect();
        let turns: Vec<_> = self
            .last_turns_ns
            .range((tgid, 0)..=(tgid, u32::MAX))
            .map(|(vcpu, _)| *vcpu)
            .collect();
        for vcpu in turns {
            self.last_turns_ns.remove(&vcpu);
        }
        for key in of_vm {
            if let Some(row) = self.rows.remove(&key) {
                self.causes -= row.causes.as_ref().map_or(0, Causes::count);
                self.add((LONG_AGO, key.1), &row.totals, row.recent, row.causes);
            }
        }
        let open: Vec<_> = self.open.range(first..=last).map(|it| *it.0).collect();
        for vcpu_id in open {
            for exit in self.open.remove(&vcpu_id).unwrap_or_default() {
                self.open_count -= 1;
                let totals = ExitTotals::open();
                self.add((LONG_AGO, exit.key), &totals, MinMax::NONE, None);
            }
        }
        let threads: Vec<_> = self
            .guest_ns
            .range(first..=last)
            .map(|(vcpu_id, _)| *vcpu_id)
            .collect();
        for vcpu_id in threads {
            let guest_ns = self.guest_ns.remove(&vcpu_id).unwrap_or(0);
            self.add_guest_time(LONG_AGO, guest_ns);
        }
    }

    /// Hands over all rows. What is kept from here on is of the next reading.
    pub(crate) fn hand_over(
        &mut self,
        running: &RunningVcpus,
        each: &mut dyn FnMut(&ThreadExits<'_>),
    ) {
        self.find_moved(None, running);
        for (vcpu_id, exits) in &self.open {
            for exit in exits {
                pass_on_open(*vcpu_id, exit.key, false, each);
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

    /// What the threads did besides.
    pub(crate) fn vcpus(&self) -> impl Iterator<Item = VcpuTimes> {
        self.guest_ns.iter().map(|(vcpu_id, guest_ns)| VcpuTimes {
            vcpu_id: *vcpu_id,
            guest_ns: *guest_ns,
            open_ns: 0,
        })
    }
}

fn has_run_since(last_turns_ns: &BTreeMap<Vcpu, u64>, vcpu: Option<Vcpu>, exit_ns: u64) -> bool {
    let last_ns = vcpu.and_then(|vcpu| last_turns_ns.get(&vcpu));
    last_ns.is_some_and(|last_ns| *last_ns > exit_ns)
}

/// A thread that has ended is told by its vCPU, where that is known.
fn vcpu_id(thread: &VcpuThread) -> VcpuId {
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
mod tests {
    use super::*;

    fn thread(tgid: u32) -> VcpuThread {
        let mut thread = VcpuThread::new(u64::from(tgid) << 32 | 7, 0);
        (thread.task, thread.ended) = (0, 1);
        thread.clock.guest_ns = 5;
        thread
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut exited = ExitedThreads::default();
        let vms = 2 * u32::try_from(MOST_EXITED_ROWS).expect("a small number");
        let totals = ExitTotals {
            count: 3,
            total_ns: 30,
            ..ExitTotals::default()
        };
        let recent = MinMax {
            min_ns: 4,
            max_ns: 9,
        };
        for tgid in 1..=vms {
            exited.keep(&thread(tgid), Key::default(), &totals, recent, None);
            exited.keep_thread(&thread(tgid));
        }
        assert!(exited.rows.len() <= MOST_EXITED_ROWS);
        let (mut count, mut largest) = (0, 0);
        exited.hand_over(&RunningVcpus::default(), &mut |exits| {
            count += exits.totals.count;
            largest = largest.max(exits.totals.count);
        });
        assert_eq!(count, 3 * u64::from(vms));
        assert!(largest > 3, "the first ones are together");
        let guest_ns: u64 = exited.vcpus().map(|it| it.guest_ns).sum();
        assert_eq!(guest_ns, 5 * u64::from(vms));
    }

    /// Everything that is handed over: how many exits, and how many of them are open.
    fn sums(exited: &mut ExitedThreads) -> (u64, u64) {
        let (mut count, mut open) = (0, 0);
        exited.hand_over(&RunningVcpus::default(), &mut |exits| {
            count += exits.totals.count;
            open += exits.totals.open;
        });
        (count, open)
    }

    fn key(code: u64) -> Key {
        Key {
            code,
            ..Key::default()
        }
    }

    #[test]
    fn vcpus_of_one_vm_are_merged_too() {
        let mut exited = ExitedThreads::default();
        let vcpus = 2 * u32::try_from(MOST_EXITED).expect("a small number");
        for vcpu in 0..vcpus {
            let thread = VcpuThread { vcpu, ..thread(1) };
            // A thread without rows: nobody wants them.
            exited.keep_thread(&thread);
            exited.keep_open(&thread, Key::default());
        }
        assert!(exited.guest_ns.len() <= MOST_EXITED);
        assert!(exited.last_turns_ns.len() <= MOST_EXITED);
        assert!(exited.open_count <= MOST_EXITED);
        let guest_ns: u64 = exited.vcpus().map(|it| it.guest_ns).sum();
        assert_eq!(guest_ns, 5 * u64::from(vcpus));
        assert_eq!(sums(&mut exited), (vcpus.into(), vcpus.into()));
        assert_eq!(exited.full(), 0);
    }

    #[test]
    fn open_exits_of_one_vcpu_are_few_and_all_are_counted() {
        let mut exited = ExitedThreads::default();
        for _ in 0..1000 {
            exited.keep_open(&thread(1), Key::default());
        }
        assert_eq!(exited.open_count, MOST_OPEN_OF_VCPU);
        assert_eq!(sums(&mut exited), (1000, 1000));
    }

    #[test]
    fn keys_that_find_no_room_are_counted() {
        let mut exited = ExitedThreads::default();
        let totals = ExitTotals {
            count: 3,
            ..ExitTotals::default()
        };
        let keys = MOST_EXITED_ROWS as u64 + 100;
        for code in 0..keys {
            exited.keep(&thread(1), key(code), &totals, MinMax::NONE, None);
        }
        assert_eq!(exited.rows.len(), MOST_EXITED_ROWS);
        assert_eq!(exited.full(), 300);
        assert_eq!(sums(&mut exited).0 + exited.full(), 3 * keys);
    }

    #[test]
    fn causes_are_bounded() {
        let mut exited = ExitedThreads::default();
        let mut table = kvm_ebpf_common::CauseTable::default();
        for number in 0..MOST_EXITED_ROWS as u64 {
            // Four threads of one vCPU, each with other causes.
            for thread_number in 0..4 {
                for (place, cause) in table.causes.iter_mut().enumerate() {
                    cause.key = key(1000 * thread_number + place as u64);
                    cause.count = 1;
                }
                let causes = Some(Causes::from(&table));
                let totals = ExitTotals::default();
                exited.keep(&thread(1), key(number), &totals, MinMax::NONE, causes);
            }
        }
        let counted: usize = exited.rows.values().filter_map(|it| it.causes.as_ref()).map(Causes::count).sum();
        assert_eq!(counted, exited.causes);
        assert!(counted <= MOST_EXITED_CAUSES + CAUSES * MOST_EXITED_ROWS, "{counted}");
    }

    #[test]
    fn extremes_are_of_the_reading_in_which_a_thread_ended() {
        let mut exited = ExitedThreads::default();
        let keep = |exited: &mut ExitedThreads, ns: u64| {
            let recent = MinMax {
                min_ns: ns,
                max_ns: ns,
            };
            let key = Key::default();
            exited.keep(&thread(1), key, &ExitTotals::default(), recent, None);
            recent
        };
        let kept = |exited: &mut ExitedThreads| {
            let mut kept = Vec::new();
            exited.hand_over(&RunningVcpus::default(), &mut |exits| {
                kept.push(exits.recent)
            });
            kept
        };
        let first = keep(&mut exited, 4);
        assert_eq!(kept(&mut exited), [first]);
        // Another thread that ran the same vCPU.
        let second = keep(&mut exited, 9);
        assert_eq!(kept(&mut exited), [second]);
        assert_eq!(kept(&mut exited), [MinMax::NONE]);
    }
}
