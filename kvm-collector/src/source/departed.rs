//! What vCPU threads that have ended had counted: kept once, while the kernel half uses their places
//! again.

use std::collections::BTreeMap;

use kvm_ebpf_common::{Key, VCPU_UNKNOWN, VcpuThread};

use crate::model::{Causes, ExitTotals, MinMax, ThreadExits, VcpuTimes, Whose};

/// Rows kept at most, at 2.6 KB each. Beyond that, the VMs that ended first are taken together.
const MOST_ROWS: usize = 16_384;

#[derive(Debug)]
struct Row {
    totals: ExitTotals,
    /// Of what ended since the last reading.
    recent: MinMax,
    causes: Option<Causes>,
}

/// Exits of threads that have ended.
#[derive(Debug, Default)]
pub(super) struct Departed {
    rows: BTreeMap<(Whose, Key), Row>,
    guest_ns: BTreeMap<Whose, u64>,
    /// VMs in the order in which they were seen to end.
    order: Vec<u32>,
}

/// All VMs that ended long ago.
const LONG_AGO: Whose = Whose {
    tgid: 0,
    vcpu: VCPU_UNKNOWN,
    tid: 0,
};

impl Departed {
    /// Keeps what a thread had counted under a key.
    pub(super) fn keep(
        &mut self,
        thread: &VcpuThread,
        key: Key,
        totals: &ExitTotals,
        recent: MinMax,
        causes: Option<Causes>,
    ) {
        let whose = whose(thread);
        if !self.order.contains(&whose.tgid) {
            self.order.push(whose.tgid);
        }
        self.add((whose, key), totals, recent, causes);
        while self.rows.len() > MOST_ROWS && self.order.len() > 1 {
            let tgid = self.order.remove(0);
            self.take_together(tgid);
        }
    }

    /// Keeps how long a thread was in the guest, in all.
    pub(super) fn keep_thread(&mut self, thread: &VcpuThread) {
        *self.guest_ns.entry(whose(thread)).or_default() += thread.clock.guest_ns;
    }

    fn add(
        &mut self,
        key: (Whose, Key),
        totals: &ExitTotals,
        recent: MinMax,
        causes: Option<Causes>,
    ) {
        let row = self.rows.entry(key).or_insert_with(|| Row {
            totals: ExitTotals::default(),
            recent: MinMax::NONE,
            causes: None,
        });
        row.totals.merge(totals);
        row.recent.merge(recent);
        if let Some(causes) = causes {
            row.causes.get_or_insert_default().merge(&causes);
        }
    }

    fn take_together(&mut self, tgid: u32) {
        let first = Whose {
            tgid,
            vcpu: 0,
            tid: 0,
        };
        let last = Whose {
            tgid,
            vcpu: u32::MAX,
            tid: u32::MAX,
        };
        let of_vm: Vec<_> = self
            .rows
            .range((first, Key::default())..)
            .take_while(|((whose, _), _)| whose.tgid == tgid)
            .map(|(key, _)| *key)
            .collect();
        for key in of_vm {
            if let Some(row) = self.rows.remove(&key) {
                self.add((LONG_AGO, key.1), &row.totals, row.recent, row.causes);
            }
        }
        let threads: Vec<_> = self
            .guest_ns
            .range(first..=last)
            .map(|(whose, _)| *whose)
            .collect();
        for whose in threads {
            let guest_ns = self.guest_ns.remove(&whose).unwrap_or(0);
            *self.guest_ns.entry(LONG_AGO).or_default() += guest_ns;
        }
    }

    /// Hands over all rows. What is kept from here on is of the next reading.
    pub(super) fn hand_over(&mut self, each: &mut dyn FnMut(&ThreadExits<'_>)) {
        for ((whose, key), row) in &mut self.rows {
            each(&ThreadExits {
                whose: *whose,
                key: *key,
                totals: &row.totals,
                recent: row.recent,
                causes: row.causes.as_ref(),
            });
            row.recent = MinMax::NONE;
        }
    }

    /// What the threads did besides.
    pub(super) fn vcpus(&self) -> impl Iterator<Item = VcpuTimes> {
        self.guest_ns.iter().map(|(whose, guest_ns)| VcpuTimes {
            whose: *whose,
            guest_ns: *guest_ns,
            open_ns: 0,
        })
    }
}

/// A thread that has ended is told by its vCPU, where that is known.
fn whose(thread: &VcpuThread) -> Whose {
    Whose {
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
    use kvm_ebpf_common::{NEAR_ROWS, NearRow, VcpuClock};

    fn thread(tgid: u32) -> VcpuThread {
        VcpuThread {
            task: 0,
            was: u64::from(tgid) << 32 | 7,
            vcpu: 0,
            ended: 1,
            separate: 0,
            check_turn: 0,
            clock: VcpuClock {
                guest_ns: 5,
                ..VcpuClock::default()
            },
            cause: Key::default(),
            guest_rip: 0,
            near: [NearRow::default(); NEAR_ROWS],
        }
    }

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut departed = Departed::default();
        let vms = 2 * u32::try_from(MOST_ROWS).expect("a small number");
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
            departed.keep(&thread(tgid), Key::default(), &totals, recent, None);
            departed.keep_thread(&thread(tgid));
        }
        assert!(departed.rows.len() <= MOST_ROWS);
        let (mut count, mut largest) = (0, 0);
        departed.hand_over(&mut |exits| {
            count += exits.totals.count;
            largest = largest.max(exits.totals.count);
        });
        assert_eq!(count, 3 * u64::from(vms));
        assert!(largest > 3, "the first ones are together");
        let guest_ns: u64 = departed.vcpus().map(|it| it.guest_ns).sum();
        assert_eq!(guest_ns, 5 * u64::from(vms));
    }

    #[test]
    fn extremes_are_of_the_reading_in_which_a_thread_ended() {
        let mut departed = Departed::default();
        let keep = |departed: &mut Departed, ns: u64| {
            let recent = MinMax {
                min_ns: ns,
                max_ns: ns,
            };
            let key = Key::default();
            departed.keep(&thread(1), key, &ExitTotals::default(), recent, None);
            recent
        };
        let kept = |departed: &mut Departed| {
            let mut kept = Vec::new();
            departed.hand_over(&mut |exits| kept.push(exits.recent));
            kept
        };
        let first = keep(&mut departed, 4);
        assert_eq!(kept(&mut departed), [first]);
        // Another thread that ran the same vCPU.
        let second = keep(&mut departed, 9);
        assert_eq!(kept(&mut departed), [second]);
        assert_eq!(kept(&mut departed), [MinMax::NONE]);
    }
}
