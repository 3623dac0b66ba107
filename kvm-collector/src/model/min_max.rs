//! The shortest and the longest of several durations.

/// The shortest and the longest duration, in ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinMax {
    /// The shortest; `u64::MAX` if there is no duration.
    pub min_ns: u64,
    /// The longest; 0 if there is no duration.
    pub max_ns: u64,
}

impl MinMax {
    /// The value for no durations at all.
    pub const NONE: Self = Self {
        min_ns: u64::MAX,
        max_ns: 0,
    };

    /// Includes the durations of `other`.
    pub fn merge(&mut self, other: Self) {
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}
