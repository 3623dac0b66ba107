//! A whole recording at once: what it says of itself, its events, its exits, and how it went on.

use super::{ExitsReport, StatReport, TimelineReport};
use crate::model::Loss;

/// What a recording says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordingFacts {
    /// The file.
    pub file: String,
    /// When it began, in ns since 1970, where its clock has a date.
    pub began_wall_ns: Option<u64>,
    /// What else there is to know, as name and text: host, kernel, command, ...
    pub others: Vec<(&'static str, String)>,
    /// What is wrong with it, in words.
    pub defect: Option<String>,
}

/// Where exits of a recording went.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedExits {
    /// By VM, vCPU and reason, longest time first.
    pub rows: ExitsReport,
    /// By reason only, with histograms.
    pub reasons: ExitsReport,
}

/// A recording, with all that the report in HTML shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    /// What it says of itself.
    pub facts: RecordingFacts,
    /// How often each event happened, also per VM.
    pub stat: StatReport,
    /// Exits; or why there are none, in words.
    pub exits: Result<RecordedExits, String>,
    /// How it went on.
    pub timeline: TimelineReport,
}

impl Overview {
    /// All that is missing: from the events, and from the exits made of them.
    #[must_use]
    pub fn loss(&self) -> Loss {
        match &self.exits {
            Ok(exits) => self.stat.loss.plus(&exits.rows.loss),
            Err(_) => self.stat.loss,
        }
    }
}
