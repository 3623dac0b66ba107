//! Changes of rates and times between a baseline and a report.

use serde::Serialize;

/// Change of a rate per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RateChange {
    /// The rate in the baseline.
    pub before: f64,
    /// The rate in this report.
    pub now: f64,
    /// `now` minus `before`.
    pub change: f64,
}

/// Change of a time in ns. A time is `None` if no exit has a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimeChange {
    /// The time in the baseline.
    pub before: Option<u64>,
    /// The time in this report.
    pub now: Option<u64>,
    /// `now` minus `before`, if both are known.
    pub change: Option<i64>,
}

impl RateChange {
    /// Computes the change.
    pub(super) fn new(before: f64, now: f64) -> Self {
        Self {
            before,
            now,
            change: now - before,
        }
    }
}

impl TimeChange {
    /// Computes the change. It saturates at the limits of `i64`.
    pub(super) fn new(before: Option<u64>, now: Option<u64>) -> Self {
        let change = before.zip(now).map(|(before, now)| {
            let change = i128::from(now) - i128::from(before);
            i64::try_from(change).unwrap_or(if change < 0 { i64::MIN } else { i64::MAX })
        });
        Self {
            before,
            now,
            change,
        }
    }
}

/// One second in ns.
pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// Returns a rate per second; 0 for an interval of length 0.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more precision")]
pub(super) fn rate(count: u64, elapsed_ns: u64) -> f64 {
    if elapsed_ns == 0 {
        0.0
    } else {
        count as f64 * SECOND_NS as f64 / elapsed_ns as f64
    }
}

/// Returns a time per second of an interval; 0 for an interval of length 0.
pub(super) fn ns_per_s(ns: u64, elapsed_ns: u64) -> u64 {
    let ns = u128::from(ns) * u128::from(SECOND_NS);
    let per_s = ns.checked_div(elapsed_ns.into()).unwrap_or(0);
    u64::try_from(per_s).unwrap_or(u64::MAX)
}
