//! What is missing from the numbers: the one list that every report, format and exit code reads.

use serde::Serialize;

/// How much a report leaves out or knows only roughly. All zero means: the report is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Events that could not be queued for user space, or could not be counted per VM.
    pub lost: u64,
    /// VM exits that were followed by another exit of the same thread, or, in a stream of events, by a
    /// place where events are missing. They are counted and have no time.
    pub unmatched: u64,
    /// VM exits after which another thread entered the same vCPU. They are counted and have no time.
    pub moved: u64,
    /// VM exits in no row because the table of rows (or of threads) was full.
    pub map_full: u64,
    /// Events left out because it is not known which VM or vCPU they belong to, and the selection asks.
    pub unattributed: u64,
    /// Events for which the kernel ran no program, because another one was running on that CPU.
    /// `None`: this kernel does not count them (classic tracepoint programs before Linux 6.7).
    pub missed: Option<u64>,
    /// Records of a recording that cannot be decoded, and places where it ends too early.
    pub damaged: u64,
    /// Events that arrived after events with a later time, too late to be put in order.
    pub late: u64,
    /// Events whose number is an estimate: the recording holds a sample of them.
    pub sampled: u64,
}

/// One kind of loss, as reports show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LossEntry {
    /// Its name, as in JSON and CSV.
    pub name: &'static str,
    /// How many; `None` where the kernel cannot say.
    pub count: Option<u64>,
    /// What the number counts, as the rest of a sentence that begins with the number.
    pub meaning: &'static str,
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
    /// Every kind of loss, in the order in which reports show them.
    #[must_use]
    pub fn entries(&self) -> [LossEntry; 9] {
        let entry = |name, count, meaning| LossEntry {
            name,
            count,
            meaning,
        };
        [
            entry(
                "lost",
                Some(self.lost),
                "events did not fit into the buffer: they are not shown, and in no row of a recording",
            ),
            entry(
                "unmatched",
                Some(self.unmatched),
                "exits have no entry after them, or events are missing in between: they are counted and have no time",
            ),
            entry(
                "moved",
                Some(self.moved),
                "exits have no time because another thread entered their vCPU: several threads run it in turn",
            ),
            entry(
                "map_full",
                Some(self.map_full),
                "exits are in no row because the table was full: give a larger --max-rows",
            ),
            entry(
                "unattributed",
                Some(self.unattributed),
                "events were left out because their thread's VM or vCPU is not known",
            ),
            entry(
                "missed",
                self.missed,
                "events were not seen because a program was running on that CPU already",
            ),
            entry(
                "damaged",
                Some(self.damaged),
                "records of the recording are damaged or cut off: what they held is in no row",
            ),
            entry(
                "late",
                Some(self.late),
                "events came too late to be put in order of time",
            ),
            entry(
                "sampled",
                Some(self.sampled),
                "events are an estimate: the recording holds only a sample of them, and exits have no times",
            ),
        ]
    }

    /// Is nothing known to be missing? (What the kernel cannot say is not known to be missing.)
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.entries()
            .iter()
            .all(|entry| entry.count.unwrap_or(0) == 0)
    }

    /// The sum of two parts of the same measurement.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// What came to be missing after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.each(earlier, u64::saturating_sub)
    }

    fn each(&self, other: &Self, with: fn(u64, u64) -> u64) -> Self {
        Self {
            lost: with(self.lost, other.lost),
            unmatched: with(self.unmatched, other.unmatched),
            moved: with(self.moved, other.moved),
            map_full: with(self.map_full, other.map_full),
            unattributed: with(self.unattributed, other.unattributed),
            missed: self.missed.zip(other.missed).map(|(a, b)| with(a, b)),
            damaged: with(self.damaged, other.damaged),
            late: with(self.late, other.late),
            sampled: with(self.sampled, other.sampled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_an_entry_and_makes_a_report_incomplete() {
        let json = serde_json::to_value(Loss::default()).unwrap();
        let fields: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let entries = Loss::default().entries();
        let mut names: Vec<_> = entries.iter().map(|it| it.name.to_owned()).collect();
        names.sort();
        assert_eq!(names, fields);
        assert!(Loss::default().is_none());
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
            assert!(!loss.is_none(), "{field}");
            assert_eq!(loss.plus(&loss).since(&loss), loss, "{field}");
        }
    }

    #[test]
    fn what_is_not_known_stays_unknown() {
        let unknown = Loss {
            missed: None,
            ..Loss::default()
        };
        assert!(unknown.is_none());
        assert_eq!(unknown.since(&Loss::default()).missed, None);
        assert_eq!(Loss::default().plus(&unknown).missed, None);
    }
}
