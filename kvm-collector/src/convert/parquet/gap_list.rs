//! The gaps of a recording, for the metadata of Parquet files.

use serde_json::Value;

use crate::convert::sink::Gap;

/// The maximum number of gaps that are listed in a file.
const MAX_GAPS: usize = 1000;

/// The first gaps, and the number of the others.
#[derive(Debug, Clone, Default)]
pub(super) struct GapList {
    gaps: Vec<Value>,
    omitted: u64,
}

impl GapList {
    /// Adds a gap.
    pub(super) fn add(&mut self, gap: &Gap<'_>) {
        if self.gaps.len() >= MAX_GAPS {
            self.omitted += 1;
            return;
        }
        let event = gap.event.map(ToString::to_string);
        self.gaps
            .push(serde_json::json!({ "lost": gap.lost, "event": event, "time_ns": gap.time_ns }));
    }

    /// Returns the gaps as JSON.
    pub(super) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.gaps)
    }

    /// Returns the number of gaps that are not listed.
    pub(super) fn omitted(&self) -> u64 {
        self.omitted
    }
}
