//! The hosts of several recordings, and how much of their time is recorded.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

/// The host of a recording, in a report on several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordedHost {
    /// A host with this name.
    Named(String),
    /// The recording at this path does not contain the name of its host, which counts as a host of its own.
    OfFile(String),
}

impl RecordedHost {
    /// Returns the name of the host; `None` if it is not known.
    #[must_use]
    pub fn name(&self) -> Option<&String> {
        match self {
            Self::Named(name) => Some(name),
            Self::OfFile(_) => None,
        }
    }

    /// Returns what text shows: the name, or the path of the recording.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Named(text) | Self::OfFile(text) => text,
        }
    }
}

/// The name of the host; null if it is not known.
impl Serialize for RecordedHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}

/// What a recording covers, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedTime {
    /// From one time to another, since the epoch.
    Dates(u64, u64),
    /// A length: the recording does not contain the date.
    Length(u64),
}

/// How long each host was recorded. Time that several recordings of a host cover counts once, because rates are per second in
/// which events were recorded.
#[derive(Debug, Default)]
pub struct RecordedTimes {
    hosts: BTreeMap<RecordedHost, HostTimes>,
}

#[derive(Debug, Default)]
struct HostTimes {
    dates: Vec<(u64, u64)>,
    without_dates_ns: u64,
}

impl RecordedTimes {
    /// Adds a recording of a host.
    pub fn add(&mut self, host: &RecordedHost, time: RecordedTime) {
        let times = self.hosts.entry(host.clone()).or_default();
        match time {
            RecordedTime::Dates(start_ns, end_ns) => times.dates.push((start_ns, end_ns)),
            RecordedTime::Length(ns) => {
                times.without_dates_ns = times.without_dates_ns.saturating_add(ns);
            }
        }
    }

    /// Returns how long a host was recorded, in ns.
    #[must_use]
    pub fn of_host(&self, host: &RecordedHost) -> u64 {
        self.hosts.get(host).map_or(0, HostTimes::covered_ns)
    }

    /// Returns the sum over all hosts, in ns.
    #[must_use]
    pub fn of_all_hosts(&self) -> u64 {
        let times = self.hosts.values().map(HostTimes::covered_ns);
        times.fold(0, u64::saturating_add)
    }
}

impl HostTimes {
    fn covered_ns(&self) -> u64 {
        let mut dates = self.dates.clone();
        dates.sort_unstable();
        let (mut covered_ns, mut until_ns) = (self.without_dates_ns, 0);
        for (start_ns, end_ns) in dates {
            let start_ns = start_ns.max(until_ns);
            covered_ns = covered_ns.saturating_add(end_ns.saturating_sub(start_ns));
            until_ns = until_ns.max(end_ns);
        }
        covered_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_several_recordings_of_a_host_counts_once() {
        let host = |name: &str| RecordedHost::Named(name.to_owned());
        let file = RecordedHost::OfFile("c.data".to_owned());
        let mut times = RecordedTimes::default();
        for (host, time) in [
            (host("a"), RecordedTime::Dates(50, 60)),
            (host("a"), RecordedTime::Dates(10, 30)),
            (host("a"), RecordedTime::Dates(15, 20)),
            (host("a"), RecordedTime::Dates(25, 35)),
            (host("b"), RecordedTime::Dates(10, 30)),
            (file.clone(), RecordedTime::Length(7)),
        ] {
            times.add(&host, time);
        }
        assert_eq!(times.of_host(&host("a")), 35);
        assert_eq!(times.of_host(&host("b")), 20);
        assert_eq!(times.of_host(&file), 7);
        assert_eq!(times.of_host(&host("c.data")), 0);
        assert_eq!(times.of_all_hosts(), 62);
    }

    #[test]
    fn a_path_is_not_the_name_of_a_host() {
        let file = RecordedHost::OfFile("c.data".to_owned());
        assert_eq!(serde_json::to_string(&file).unwrap(), "null");
        assert_eq!(file.label(), "c.data");
    }
}
