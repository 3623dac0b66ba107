//! Everything that the HTML report of a recording shows.

use super::{ExitsReport, StatReport, TimelineReport};
use crate::model::Loss;

/// Metadata of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordingFacts {
    /// Name of the file.
    pub file: String,
    /// Start of the recording in ns since 1970; `None` if its clock cannot be converted to a date.
    pub start_wall_ns: Option<u64>,
    /// Further facts as pairs of name and text: host, kernel, command, ...
    pub details: Vec<(&'static str, String)>,
    /// Why the file is damaged or incomplete; `None` if it is intact.
    pub defect: Option<String>,
}

/// Reports on the exits of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedExits {
    /// Rows by VM, vCPU and reason, sorted by total time in descending order.
    pub rows: ExitsReport,
    /// Rows by reason, with histograms.
    pub reasons: ExitsReport,
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
