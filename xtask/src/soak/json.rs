//! Reads numbers from the JSON reports of the collector.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Returns a number of a JSON object.
///
/// # Errors
/// If the object has no unsigned integer of this name.
pub(super) fn number(object: &Value, name: &str) -> Result<u64> {
    object[name]
        .as_u64()
        .with_context(|| format!("no number `{name}` in {object}"))
}
