//! Losses: events that are missing from the results. Every report, format and exit code reads this
//! one list.

use serde::Serialize;

/// Counts of lost or inexact data, by kind of loss. A report is complete if all of them are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Events that did not fit into a ring, or that could not be counted per VM.
    pub lost: u64,
    /// VM exits without a matching entry: the thread's next event was another exit, or events are
    /// missing after the exit. They are counted, but have no duration.
    pub unmatched: u64,
    /// VM exits after which another thread entered the same vCPU. They are counted, but have no
    /// duration.
    pub moved: u64,
    /// VM exits that are in no row because the table of rows or of threads was full.
    pub map_full: u64,
    /// Events that are omitted because the selection needs their VM or vCPU, which is unknown.
    pub unattributed: u64,
    /// Events for which the kernel ran no eBPF program, because another one was running on that
    /// CPU. `None` if the kernel does not count them, which is so for classic tracepoint programs
    /// before Linux 6.7.
    pub missed: Option<u64>,
    /// Records of a recording that cannot be decoded. A recording that is cut off counts as one.
    pub damaged: u64,
    /// Events that arrived too late to be put into time order.
    pub late: u64,
    /// Estimated number of events, because only a sample of them is recorded.
    pub sampled: u64,
}

/// One kind of loss, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossEntry {
    /// The name in JSON and CSV.
    pub name: &'static str,
    /// The count; `None` if the kernel does not count it.
    pub count: Option<u64>,
    /// What is counted, in the singular.
    pub unit: &'static str,
    /// What happened to it: the rest of a sentence that starts with the number and the unit.
    pub text: &'static str,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            lost: 0,
            unmatched: 0,
            moved: 0,
            map_full: 0,
            unattributed: 0,
            missed: Some(0),
            damaged: 0,
            late: 0,
            sampled: 0,
        }
    }
}

impl Loss {
    /// Returns the number of VM exits that are counted, but have no duration.
    #[must_use]
    pub fn untimed_exits(&self) -> u64 {
        self.unmatched.saturating_add(self.moved)
    }

    /// Returns every kind of loss, in the order in which reports show them.
    #[must_use]
    pub fn entries(&self) -> [LossEntry; 9] {
        let entry = |name, count, unit, text| LossEntry {
            name,
            count,
            unit,
            text,
        };
        [
            entry(
                "lost",
                Some(self.lost),
                "event",
                "did not fit into the buffer: not shown, and in no row of a recording",
            ),
            entry(
                "unmatched",
                Some(self.unmatched),
                "exit",
                "without a following entry, or with missing events in between: counted, without a time",
            ),
            entry(
                "moved",
                Some(self.moved),
                "exit",
                "without a time, because another thread entered the vCPU, which several threads run in turn",
            ),
            entry(
                "map_full",
                Some(self.map_full),
                "exit",
                "in no row because the table was full: use a larger --max-rows",
            ),
            entry(
                "unattributed",
                Some(self.unattributed),
                "event",
                "omitted because the VM or vCPU of the thread is unknown",
            ),
            entry(
                "missed",
                self.missed,
                "event",
                "missed because another eBPF program was running on that CPU",
            ),
            entry(
                "damaged",
                Some(self.damaged),
                "damaged record",
                "in the recording: the events in it are in no row",
            ),
            entry(
                "late",
                Some(self.late),
                "event",
                "arrived too late to be put into time order",
            ),
            entry(
                "sampled",
                Some(self.sampled),
                "event",
                "estimated: the recording contains only a sample of them, and exits have no times",
            ),
        ]
    }

    /// Returns the kinds of loss that occurred, each with its count.
    pub fn occurred(&self) -> impl Iterator<Item = (LossEntry, u64)> {
        let counted = self.entries().into_iter();
        counted.filter_map(|entry| Some((entry, entry.count.filter(|count| *count > 0)?)))
    }

    /// Returns whether no loss is known. Kinds of loss that the kernel does not count are ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.occurred().next().is_none()
    }

    /// Returns the sum of the losses of two parts of a measurement.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.combine(other, u64::saturating_add)
    }

    /// Returns the losses since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.combine(earlier, u64::saturating_sub)
    }

    fn combine(&self, other: &Self, operation: fn(u64, u64) -> u64) -> Self {
        Self {
            lost: operation(self.lost, other.lost),
            unmatched: operation(self.unmatched, other.unmatched),
            moved: operation(self.moved, other.moved),
            map_full: operation(self.map_full, other.map_full),
            unattributed: operation(self.unattributed, other.unattributed),
            missed: self.missed.zip(other.missed).map(|(a, b)| operation(a, b)),
            damaged: operation(self.damaged, other.damaged),
            late: operation(self.late, other.late),
            sampled: operation(self.sampled, other.sampled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_an_entry_and_counts_as_loss() {
        let json = serde_json::to_value(Loss::default()).unwrap();
        let fields: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let entries = Loss::default().entries();
        let mut names: Vec<_> = entries.iter().map(|it| it.name.to_owned()).collect();
        names.sort();
        assert_eq!(names, fields);
        assert!(Loss::default().is_empty());
        for field in fields {
            let mut json = serde_json::to_value(Loss::default()).unwrap();
            json[&field] = 1.into();
            let number = |name: &str| json[name].as_u64().unwrap();
            let loss = Loss {
                lost: number("lost"),
                unmatched: number("unmatched"),
                moved: number("moved"),
                map_full: number("map_full"),
                unattributed: number("unattributed"),
                missed: Some(number("missed")),
                damaged: number("damaged"),
                late: number("late"),
                sampled: number("sampled"),
            };
            assert!(!loss.is_empty(), "{field}");
            assert_eq!(loss.plus(&loss).since(&loss), loss, "{field}");
        }
    }

    #[test]
    fn unknown_counts_stay_unknown() {
        let unknown = Loss {
            missed: None,
            ..Loss::default()
        };
        assert!(unknown.is_empty());
        assert_eq!(unknown.since(&Loss::default()).missed, None);
        assert_eq!(Loss::default().plus(&unknown).missed, None);
    }
}
