//! Details of a row: its histogram, percentiles and causes.

use kvm_ebpf_common::{BUCKETS, bucket_start};
use serde::Serialize;

use super::{groups::GroupStats, names::KeyNames};
use crate::model::ExitTotals;

/// One bucket of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// Lower bound, inclusive.
    pub from_ns: u64,
    /// Upper bound, exclusive; `u64::MAX` in the last bucket, which is unbounded.
    pub to_ns: u64,
    /// Number of exits.
    pub count: u64,
}

/// A percentile of durations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentile {
    /// The percentage, such as 99.9.
    pub percent: f64,
    /// The duration that this percentage of the exits does not exceed, accurate to 5 %.
    pub ns: u64,
}

/// A cause of the exits in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CauseRow {
    /// Label, such as `port 0x3f8 out`.
    pub cause: String,
    /// Known name of the number in the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_name: Option<String>,
    /// The number in the label, such as an address or a port.
    pub cause_code: u64,
    /// Minimum number of occurrences.
    pub at_least: u64,
    /// Maximum number of occurrences.
    pub at_most: u64,
    /// Total duration of the exits in `at_least`.
    pub total_ns: u64,
}

/// Returns up to `max` causes of a group, the most frequent first.
pub(super) fn causes(group: &GroupStats, max: usize, names: &KeyNames<'_>) -> Vec<CauseRow> {
    let Some(causes) = group.causes.as_ref().filter(|_| max > 0) else {
        return Vec::new();
    };
    let ranked = causes.ranked().into_iter().take(max);
    ranked
        .map(|(key, count)| CauseRow {
            cause: names.cause_label(key),
            cause_name: names.known_cause_name(key),
            cause_code: key.code << names.cause_code_shift(key),
            at_least: count.at_least,
            at_most: count.at_most,
            total_ns: count.total_ns,
        })
        .collect()
}

/// Returns the histogram from the first to the last bucket that is not empty.
pub(super) fn buckets(totals: &ExitTotals) -> Vec<Bucket> {
    let counts = &totals.histogram;
    let first = counts.iter().position(|count| *count > 0).unwrap_or(0);
    let end = counts
        .iter()
        .rposition(|count| *count > 0)
        .map_or(0, |last| last + 1);
    (first..end)
        .map(|index| Bucket {
            from_ns: bucket_start(index),
            to_ns: if index + 1 < BUCKETS {
                bucket_start(index + 1)
            } else {
                u64::MAX
            },
            count: counts[index],
        })
        .collect()
}
