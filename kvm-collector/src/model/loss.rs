//! What is missing from the numbers.

use serde::Serialize;

/// How much a report leaves out. All zero means: the report is complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Events that could not be queued for user space, or not be counted per VM.
    pub lost: u64,
    /// VM exits that were followed by another exit of the thread without an entry between them, or, in
    /// a recording, by a place where events are missing; they are counted, and have no time.
    pub unmatched: u64,
    /// VM exits in no row because the table of rows (or of threads) was full.
    pub map_full: u64,
    /// Events left out because the filter names a vCPU and theirs is not known.
    pub unattributed: u64,
    /// Events for which the kernel ran no program, since one was running on that CPU already.
    pub missed: u64,
    /// Places where a recording is damaged or ends too early; what was there is missing.
    pub damaged: u64,
}

impl Loss {
    /// Is nothing missing?
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What came to be missing after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            lost: self.lost.saturating_sub(earlier.lost),
            unmatched: self.unmatched.saturating_sub(earlier.unmatched),
            map_full: self.map_full.saturating_sub(earlier.map_full),
            unattributed: self.unattributed.saturating_sub(earlier.unattributed),
            missed: self.missed.saturating_sub(earlier.missed),
            damaged: self.damaged.saturating_sub(earlier.damaged),
        }
    }
}
