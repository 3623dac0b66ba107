//! Losses in words.

use super::units::plural;
use crate::model::{Loss, LossEntry};

/// Describes a kind of loss of which there are `number`: `1 event did not fit into the buffer: ...`.
#[must_use]
pub fn describe_loss(entry: &LossEntry, number: u64) -> String {
    format!("{} {}", plural(number, entry.unit), entry.text)
}

/// Describes each kind of loss that occurred except lost events, of which summaries always have the number. Each description follows
/// a semicolon.
#[must_use]
pub fn describe_other_losses(loss: &Loss) -> String {
    let others = loss.occurred().filter(|(entry, _)| entry.name != "lost");
    others
        .map(|(entry, number)| format!("; {}", describe_loss(&entry, number)))
        .collect()
}
