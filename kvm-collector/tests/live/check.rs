//! Checks that fail with a message, and access to the JSON reports of the collector.

use std::{fmt::Debug, fs};

use libtest_mimic::Failed;
use serde_json::Value;

/// Fails unless `actual` equals `expected`. The message names the values with `name`.
pub(crate) fn ensure_equal<T: PartialEq + Debug>(
    name: &str,
    actual: T,
    expected: T,
) -> Result<(), Failed> {
    ensure(actual == expected, || {
        format!("{name}: got {actual:?}, expected {expected:?}")
    })
}

/// Fails with `message` unless `condition` is true.
pub(crate) fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition {
        Ok(())
    } else {
        Err(message().into())
    }
}

/// Returns the unsigned number with this key of a JSON object.
pub(crate) fn get_number(object: &Value, key: &str) -> Result<u64, Failed> {
    object[key]
        .as_u64()
        .ok_or_else(|| format!("no number `{key}` in {object}").into())
}

/// Returns a part of the time of exits. Preempted time is null if it was not measured, which counts as 0.
pub(crate) fn get_part(object: &Value, part: &str) -> Result<u64, Failed> {
    match part == "preempted_ns" && object[part].is_null() {
        true => Ok(0),
        false => get_number(object, part),
    }
}

/// Returns the array with this key of a JSON object.
pub(crate) fn get_list<'a>(object: &'a Value, key: &str) -> Result<&'a [Value], Failed> {
    object[key]
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| format!("no list `{key}` in {object}").into())
}

/// The keys of the object `loss` of every report.
pub(crate) const LOSSES: [&str; 9] = [
    "lost",
    "unmatched",
    "moved",
    "map_full",
    "unattributed",
    "missed",
    "damaged",
    "late",
    "sampled",
];

/// Fails unless a report has all keys of [`LOSSES`], and each of them is 0.
pub(crate) fn ensure_nothing_lost(report: &Value) -> Result<(), Failed> {
    let loss = &report["loss"];
    for key in LOSSES {
        let is_unknown = key == "missed" && !kernel_counts_misses()? && loss[key].is_null();
        ensure(is_unknown || loss[key] == 0, || {
            format!("events were lost ({key}): {loss}")
        })?;
    }
    Ok(())
}

/// Returns whether this kernel counts the events for which it did not run a program of a classic tracepoint. Linux does
/// since 6.7.
pub(crate) fn kernel_counts_misses() -> Result<bool, Failed> {
    Ok(kernel_version()? >= (6, 7))
}

/// Returns the first two numbers of the running kernel's version.
pub(crate) fn kernel_version() -> Result<(u32, u32), Failed> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|char: char| !char.is_ascii_digit());
    let mut next_number = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    let version = next_number().zip(next_number());
    Ok(version.ok_or_else(|| format!("not a kernel version: {release}"))?)
}
