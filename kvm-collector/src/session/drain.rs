//! Reads all records from the rings, in batches.

use crate::{
    model::Batch,
    probe::{RingLoss, Rings},
};

/// Maximum number of batches per call of [`drain`]. On a busy host the rings are never empty, and the
/// caller has other work to do.
const MAX_BATCHES: usize = 8;

/// Result of reading the rings once.
#[derive(Debug)]
pub(super) struct RingRead {
    /// Records. Can be empty if only losses were found.
    pub(super) batch: Batch,
    /// Losses that happened before these records; see [`Rings::take_losses`].
    pub(super) losses: Vec<RingLoss>,
}

/// Whether [`drain`] has read everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DrainOutcome {
    /// The rings are empty.
    Empty,
    /// The rings may have more records.
    MayHaveMore,
}

/// Reads batches until the rings are empty, `has_capacity` returns false, or [`MAX_BATCHES`] were read.
///
/// # Errors
/// The first error that `each` returns.
pub(super) fn drain<E>(
    rings: &mut Rings,
    has_capacity: impl Fn() -> bool,
    mut each: impl FnMut(&Rings, RingRead) -> Result<(), E>,
) -> Result<DrainOutcome, E> {
    for _ in 0..MAX_BATCHES {
        if !has_capacity() {
            return Ok(DrainOutcome::MayHaveMore);
        }
        let batch = rings.drain();
        let losses: Vec<_> = rings.take_losses().collect();
        let is_last = batch.is_empty();
        if !is_last || !losses.is_empty() {
            each(rings, RingRead { batch, losses })?;
        }
        if is_last {
            return Ok(DrainOutcome::Empty);
        }
    }
    Ok(DrainOutcome::MayHaveMore)
}
