//! Saying what was expected and what came.

use std::fmt::Debug;

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

/// Fails unless a report says that nothing is missing from it.
pub(crate) fn nothing_lost(report: &Value) -> Result<(), Failed> {
    let loss = report["loss"]
        .as_object()
        .ok_or_else(|| format!("no loss in {report}"))?;
    ensure(
        !loss.is_empty() && loss.values().all(|it| it.as_u64() == Some(0)),
        || format!("numbers are missing: {}", report["loss"]),
    )
}
