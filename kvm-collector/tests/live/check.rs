//! Saying what was expected and what came.

use std::{fmt::Debug, fs};

use libtest_mimic::Failed;
use serde_json::Value;

/// Fails unless `got` is `expected`.
pub(crate) fn equal<T: PartialEq + Debug>(what: &str, got: T, expected: T) -> Result<(), Failed> {
    ensure(got == expected, || {
        format!("{what}: got {got:?}, expected {expected:?}")
    })
}

/// Fails with `message` unless `holds`.
pub(crate) fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(message().into()) }
}

/// A number of an object.
pub(crate) fn number(object: &Value, name: &str) -> Result<u64, Failed> {
    object[name]
        .as_u64()
        .ok_or_else(|| format!("no number `{name}` in {object}").into())
}

/// A list of an object.
pub(crate) fn list<'a>(object: &'a Value, name: &str) -> Result<&'a [Value], Failed> {
    object[name]
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| format!("no list `{name}` in {object}").into())
}

/// Every kind of loss that a report lists.
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

/// Fails unless a report lists every kind of loss and says that nothing is missing from it.
pub(crate) fn nothing_lost(report: &Value) -> Result<(), Failed> {
    let loss = &report["loss"];
    for kind in LOSSES {
        let is_unknown = kind == "missed" && !kernel_counts_misses()? && loss[kind].is_null();
        ensure(is_unknown || loss[kind] == 0, || {
            format!("numbers are missing ({kind}): {loss}")
        })?;
    }
    Ok(())
}

/// Does this kernel count the events for which it did not run a classic tracepoint program? Linux does since 6.7.
pub(crate) fn kernel_counts_misses() -> Result<bool, Failed> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse::<u32>().ok());
    let version = next().zip(next());
    Ok(version.ok_or_else(|| format!("not a kernel version: {release}"))? >= (6, 7))
}
