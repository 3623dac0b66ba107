//! Readings that nobody has taken yet: one at most, whatever comes while nobody takes any.

use super::TopReading;

/// A reading, and what it is for.
#[derive(Debug)]
pub enum PendingReading {
    /// For the rows and the histograms.
    Reading(Box<TopReading>),
    /// With the histograms from which those of the next reading are counted.
    Histograms(Box<TopReading>),
}

/// At most one reading of each sort. A newer one replaces an older one and takes over what only that one had, so taking
/// the newest is as good as taking each: totals are since the beginning, and extremes since the last one that was taken.
#[derive(Debug, Default)]
pub struct PendingReadings {
    reading: Option<Box<TopReading>>,
    histograms: Option<Box<TopReading>>,
    /// The histograms are newer than the reading.
    histograms_are_last: bool,
}

impl PendingReadings {
    /// Adds a reading for the rows and the histograms.
    pub fn add_reading(&mut self, mut reading: Box<TopReading>) {
        if let Some(older) = self.reading.take() {
            reading.inherit_names(&older);
            if !self.histograms_are_last {
                reading.inherit_extremes(&older);
            }
        }
        self.reading = Some(reading);
        self.histograms_are_last = false;
    }

    /// Adds a reading with the histograms from which those of the next reading are counted.
    pub fn add_histograms(&mut self, mut histograms: Box<TopReading>) {
        if let Some(older) = self.histograms.take() {
            histograms.inherit_names(&older);
        }
        self.histograms = Some(histograms);
        self.histograms_are_last = true;
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reading.is_none() && self.histograms.is_none()
    }
}

impl IntoIterator for PendingReadings {
    type Item = PendingReading;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<PendingReading>, 2>>;

    /// In the order in which they are to be taken.
    fn into_iter(self) -> Self::IntoIter {
        let reading = self.reading.map(PendingReading::Reading);
        let histograms = self.histograms.map(PendingReading::Histograms);
        let both = if self.histograms_are_last {
            [reading, histograms]
        } else {
            [histograms, reading]
        };
        both.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kvm_ebpf_common::{Key, bucket_index};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{ExitReading, ExitTotals, Loss, MinMax, ThreadExits, VcpuId, VcpuTimes},
        timing::TimingRequest,
        view::{GroupKey, ScopeHistograms, KeyNames, ReadingHistory, Scope, Window},
    };

    const VCPU: VcpuId = VcpuId {
        tgid: 7,
        vcpu: 0,
        tid: 8,
    };

    fn extremes(times: &[u64]) -> MinMax {
        let mut extremes = MinMax::NONE;
        for &time in times {
            extremes.merge(MinMax {
                min_ns: time,
                max_ns: time,
            });
        }
        extremes
    }

    fn totals(times: &[u64]) -> ExitTotals {
        let mut totals = ExitTotals {
            count: times.len() as u64,
            total_ns: times.iter().sum(),
            extremes: extremes(times),
            ..ExitTotals::default()
        };
        for &time in times {
            totals.histogram[bucket_index(time)] += 1;
        }
        totals
    }

    /// The exits of one vCPU: by code, and each with the epoch it was in.
    #[derive(Default)]
    struct Source {
        exits: Vec<(u64, u64, u64)>,
        epoch: u64,
        named: HashSet<Key>,
    }

    impl Source {
        fn times(&self, code: u64, is_in: impl Fn(u64) -> bool) -> Vec<u64> {
            let exits = self.exits.iter();
            let of = exits.filter(|it| it.0 == code && is_in(it.1));
            of.map(|it| it.2).collect()
        }

        fn read(&mut self, scope: Scope) -> TopReading {
            let mut reading = TopReading::new(scope, None);
            for code in 0..3 {
                let (all, epoch) = (self.times(code, |_| true), self.epoch);
                if !all.is_empty() {
                    reading.add(&ThreadExits {
                        vcpu_id: VCPU,
                        key: Key { code, ..Key::default() },
                        totals: &totals(&all),
                        recent: extremes(&self.times(code, |it| it == epoch)),
                        causes: None,
                    });
                }
            }
            self.epoch += 1;
            let mut reading = reading.finish(ExitReading {
                time_ns: self.epoch * 1000,
                vcpus: vec![VcpuTimes {
                    vcpu_id: VCPU,
                    guest_ns: self.epoch,
                    open_ns: 0,
                }],
                loss: Loss {
                    unmatched: self.epoch,
                    ..Loss::default()
                },
            });
            let pairing = TimingRequest::default();
            reading.add_names(&mut self.named, &KeyNames::of(&pairing), &|_| Some("web".into()));
            reading
        }
    }

    /// What a screen makes of readings.
    #[derive(Default)]
    struct Shown {
        ledger: ReadingHistory,
        histograms: ScopeHistograms,
    }

    impl Shown {
        fn take(&mut self, unread: PendingReading) {
            match unread {
                PendingReading::Reading(mut reading) => {
                    self.histograms.add_reading(&mut reading);
                    self.ledger.add_reading(&reading, 1000);
                }
                PendingReading::Histograms(mut reading) => {
                    self.ledger.add_names(&reading.names);
                    self.histograms.set_base(&mut reading);
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Exits(Vec<(u64, u64)>),
        Read,
        Look(usize),
        Show,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop::collection::vec((0u64..3, 1000u64..1_000_000), 1..5).prop_map(Step::Exits),
            4 => Just(Step::Read),
            1 => (0usize..2).prop_map(Step::Look),
            2 => Just(Step::Show),
        ]
    }

    proptest! {
        /// A screen that takes readings now and then shows what one shows that takes each of them.
        #[test]
        fn what_replaces_a_reading_has_all_of_it(steps in prop::collection::vec(step(), 1..60)) {
            let scopes = [Scope::default(), Scope::default().next_grouping().next_grouping()];
            prop_assert_ne!(scopes[0], scopes[1]);
            let (mut source, mut unread) = (Source::default(), PendingReadings::default());
            let (mut each, mut some) = (Shown::default(), Shown::default());
            let mut scope = 0;
            // The epoch from which on exits are recent.
            let mut since = 0;
            for step in steps {
                match step {
                    Step::Exits(exits) => {
                        let epoch = source.epoch;
                        source.exits.extend(exits.iter().map(|(code, ns)| (*code, epoch, *ns)));
                    }
                    Step::Read => {
                        let reading = Box::new(source.read(scopes[scope]));
                        each.take(PendingReading::Reading(reading.clone()));
                        unread.add_reading(reading);
                    }
                    Step::Look(next) => {
                        scope = next;
                        let reading = Box::new(source.read(scopes[scope]));
                        each.take(PendingReading::Histograms(reading.clone()));
                        unread.add_histograms(reading);
                        since = source.epoch;
                    }
                    Step::Show => {
                        let has_reading = unread.reading.is_some() && !unread.histograms_are_last;
                        for reading in std::mem::take(&mut unread) {
                            some.take(reading);
                        }
                        prop_assert!(unread.is_empty());
                        prop_assert_eq!(some.ledger.time_ns(), each.ledger.time_ns());
                        prop_assert_eq!(some.ledger.total_and_recent_loss().0, each.ledger.total_and_recent_loss().0);
                        let all = |shown: &Shown| shown.ledger.totals(&GroupKey::default(), Window::All);
                        prop_assert_eq!(all(&some), all(&each));
                        for code in 0..3 {
                            let key = Key { code, ..Key::default() };
                            prop_assert_eq!(some.ledger.key_name(key), each.ledger.key_name(key));
                            let reason = GroupKey { key: Some(key), ..GroupKey::default() };
                            for row in [reason, GroupKey { tgid: Some(7), ..GroupKey::default() }] {
                                let of = |shown: &Shown| shown.histograms.row_totals(&row, Window::All).cloned();
                                prop_assert_eq!(of(&some), of(&each));
                            }
                            if has_reading && scopes[scope].by == crate::view::Group::Reason {
                                let is_recent = |epoch| (since..source.epoch).contains(&epoch);
                                let recent = source.times(code, is_recent);
                                let shown = some.histograms.row_totals(&reason, Window::Recent);
                                let shown = shown.filter(|it| it.count > 0).cloned();
                                let expected = Some(totals(&recent)).filter(|it| it.count > 0);
                                prop_assert_eq!(shown, expected);
                            }
                        }
                        if has_reading {
                            since = source.epoch;
                        }
                    }
                }
            }
        }
    }
}
