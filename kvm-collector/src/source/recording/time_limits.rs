//! Limits for the time of a measurement.

/// The duration of a measurement and of its report intervals. The reader of a recording applies
/// them; for the running kernel, the user of [`Live`](crate::source::Live) does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// The duration from the first event on, in ns; `None` is unlimited.
    pub duration_ns: Option<u64>,
    /// The length of a report interval, in ns; `None` has no intervals.
    pub interval_ns: Option<u64>,
}
