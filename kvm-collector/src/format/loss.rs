//! Losses in words.

use super::units::plural;
use crate::model::LossEntry;

/// Describes a kind of loss of which there are `number`: `1 event did not fit into the buffer: ...`.
#[must_use]
pub fn describe_loss(entry: &LossEntry, number: u64) -> String {
    format!("{} {}", plural(number, entry.unit), entry.text)
}
