//! Everything that the HTML report of a recording shows.

use super::{ExitsReport, SlowExitRow, StatReport, TimelineReport};
use crate::model::Loss;

/// Metadata of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordingFacts {
    /// Name of the file.
    pub file: String,
    /// Difference between the date, in ns since 1970, and the clock of the events, to be added with
    /// wrapping. `None` if the recording does not contain it.
    pub wall_offset_ns: Option<u64>,
    /// Further facts as pairs of name and text: host, kernel, command, ... Unknown ones are left out.
    pub details: Vec<(&'static str, String)>,
    /// Why the file is damaged or incomplete; `None` if it is intact.
    pub defect: Option<String>,
}

impl RecordingFacts {
    /// Returns the date of a time of the clock of the events, in ns since 1970.
    #[must_use]
    pub fn wall_ns(&self, time_ns: u64) -> Option<u64> {
        let offset_ns = self.wall_offset_ns?;
        Some(time_ns.wrapping_add(offset_ns))
    }
}

/// Reports on the exits of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedExits {
    /// Rows by VM, vCPU and reason with their causes, sorted by total time in descending order.
    pub rows: ExitsReport,
    /// Rows by VM and reason with advice, sorted by non-idle time in descending order.
    pub vms: ExitsReport,
    /// Rows by reason, with histograms.
    pub reasons: ExitsReport,
    /// The exits with the most time without halted time, in descending order.
    pub slowest: Vec<SlowExitRow>,
}

/// Content of the HTML report of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// Metadata of the recording.
    pub facts: RecordingFacts,
    /// Number of events, in total and per VM.
    pub stat: StatReport,
    /// The exits, or a sentence that says why the recording has none.
    pub exits: Result<RecordedExits, String>,
    /// Events, exits and time per interval.
    pub timeline: TimelineReport,
}

impl Overview {
    /// Returns the losses of events plus those of exits.
    #[must_use]
    pub fn loss(&self) -> Loss {
        match &self.exits {
            Ok(exits) => self.stat.loss.plus(&exits.rows.loss),
            Err(_) => self.stat.loss,
        }
    }
}
