//! Readings that the screen has not shown yet. Memory is bounded: a new reading replaces an older one.

use super::TopReading;

/// A reading with its purpose.
#[derive(Debug)]
pub enum PendingReading {
    /// An update of the rows and the histograms.
    Reading(Box<TopReading>),
    /// Histograms of a new scope, to subtract from those of the next reading.
    Histograms(Box<TopReading>),
}

/// At most one pending reading of each purpose.
///
/// Counters are cumulative, so a newer reading can replace an older one. It inherits what only the
/// older one has: names, and the extremes since the reading before it.
#[derive(Debug, Default)]
pub struct PendingReadings {
    reading: Option<Box<TopReading>>,
    histograms: Option<Box<TopReading>>,
    /// Whether the histograms are newer than the reading.
    histograms_are_last: bool,
}

impl PendingReadings {
    /// Adds an update of the rows and the histograms.
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

    /// Adds histograms of a new scope, to subtract from those of the next reading.
    pub fn add_histograms(&mut self, mut histograms: Box<TopReading>) {
        if let Some(older) = self.histograms.take() {
            histograms.inherit_names(&older);
        }
        self.histograms = Some(histograms);
        self.histograms_are_last = true;
    }

    /// Returns whether no reading is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reading.is_none() && self.histograms.is_none()
    }
}

impl IntoIterator for PendingReadings {
    type Item = PendingReading;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<PendingReading>, 2>>;

    /// Returns the readings in the order in which they were made.
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
        view::{GroupKey, KeyNames, ReadingHistory, Scope, ScopeHistograms, Window},
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

    /// A source with the exits of one vCPU.
    #[derive(Default)]
    struct Source {
        /// Code, epoch and duration of each exit. An epoch ends with each reading.
        exits: Vec<(u64, u64, u64)>,
        epoch: u64,
        seen: HashSet<Key>,
    }

    impl Source {
        fn durations(&self, code: u64, is_in: impl Fn(u64) -> bool) -> Vec<u64> {
            let exits = self.exits.iter();
            let selected = exits.filter(|it| it.0 == code && is_in(it.1));
            selected.map(|it| it.2).collect()
        }

        fn read(&mut self, scope: Scope) -> TopReading {
            let mut reading = TopReading::new(scope, None);
            for code in 0..3 {
                let (all, epoch) = (self.durations(code, |_| true), self.epoch);
                if !all.is_empty() {
                    reading.add(&ThreadExits {
                        vcpu_id: VCPU,
                        key: Key {
                            code,
                            ..Key::default()
                        },
                        totals: &totals(&all),
                        recent: extremes(&self.durations(code, |it| it == epoch)),
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
                    has_ended: false,
                }],
                loss: Loss {
                    unmatched: self.epoch,
                    ..Loss::default()
                },
            });
            let request = TimingRequest::default();
            let names = KeyNames::new(&request);
            let vm_name = |_| Some("web".into());
            reading.add_names(&mut self.seen, &names, &vm_name);
            reading
        }
    }

    /// The state of a screen.
    #[derive(Default)]
    struct Screen {
        history: ReadingHistory,
        histograms: ScopeHistograms,
    }

    impl Screen {
        fn update(&mut self, pending: PendingReading) {
            match pending {
                PendingReading::Reading(mut reading) => {
                    self.histograms.add_reading(&mut reading);
                    self.history.add_reading(&reading, 1000);
                }
                PendingReading::Histograms(mut reading) => {
                    self.history.add_names(&reading.names);
                    self.histograms.set_base(&mut reading);
                }
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Exits(Vec<(u64, u64)>),
        Read,
        SelectScope(usize),
        Draw,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop::collection::vec((0u64..3, 1000u64..1_000_000), 1..5).prop_map(Step::Exits),
            4 => Just(Step::Read),
            1 => (0usize..2).prop_map(Step::SelectScope),
            2 => Just(Step::Draw),
        ]
    }

    proptest! {
        /// A screen that misses readings shows the same as one that gets all of them.
        #[test]
        fn a_replaced_reading_loses_nothing(steps in prop::collection::vec(step(), 1..60)) {
            let scopes = [Scope::default(), Scope::default().next_grouping().next_grouping()];
            prop_assert_ne!(scopes[0], scopes[1]);
            let (mut source, mut pending) = (Source::default(), PendingReadings::default());
            let (mut fast, mut slow) = (Screen::default(), Screen::default());
            let mut scope = 0;
            // The first epoch with recent exits. After a change of scope, all exits are shown until an interval
            // has passed.
            let mut since = Some(0);
            for step in steps {
                match step {
                    Step::Exits(exits) => {
                        let epoch = source.epoch;
                        source.exits.extend(exits.iter().map(|(code, ns)| (*code, epoch, *ns)));
                    }
                    Step::Read => {
                        let reading = Box::new(source.read(scopes[scope]));
                        fast.update(PendingReading::Reading(reading.clone()));
                        pending.add_reading(reading);
                    }
                    Step::SelectScope(next) => {
                        scope = next;
                        let reading = Box::new(source.read(scopes[scope]));
                        fast.update(PendingReading::Histograms(reading.clone()));
                        pending.add_histograms(reading);
                        since = None;
                    }
                    Step::Draw => {
                        let has_reading = pending.reading.is_some() && !pending.histograms_are_last;
                        for reading in std::mem::take(&mut pending) {
                            slow.update(reading);
                        }
                        prop_assert!(pending.is_empty());
                        prop_assert_eq!(slow.history.time_ns(), fast.history.time_ns());
                        prop_assert_eq!(slow.history.total_and_recent_loss().0, fast.history.total_and_recent_loss().0);
                        let all = |it: &Screen| it.history.totals(&GroupKey::default(), Window::All);
                        prop_assert_eq!(all(&slow), all(&fast));
                        for code in 0..3 {
                            let key = Key { code, ..Key::default() };
                            prop_assert_eq!(slow.history.key_name(key), fast.history.key_name(key));
                            let reason = GroupKey { key: Some(key), ..GroupKey::default() };
                            for row in [reason, GroupKey { tgid: Some(7), ..GroupKey::default() }] {
                                let row = |it: &Screen| it.histograms.row_totals(&row, Window::All).cloned();
                                prop_assert_eq!(row(&slow), row(&fast));
                            }
                            if has_reading && scopes[scope].by == crate::view::GroupBy::Reason {
                                let first = since.unwrap_or(0);
                                let is_recent = |epoch| (first..source.epoch).contains(&epoch);
                                let recent = source.durations(code, is_recent);
                                let shown = slow.histograms.row_totals(&reason, Window::Recent);
                                let shown = shown.filter(|it| it.count > 0).cloned();
                                let expected = Some(totals(&recent)).filter(|it| it.count > 0);
                                prop_assert_eq!(shown, expected);
                            }
                        }
                        if has_reading {
                            since = Some(source.epoch);
                        }
                    }
                }
            }
        }
    }
}
