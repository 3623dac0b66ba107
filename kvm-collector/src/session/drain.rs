//! The one loop that reads the rings.

use crate::{
    model::Batch,
    probe::{RingLoss, Rings},
};

/// How many batches are read before the caller does its other work: on a busy host the rings never run empty.
const MOST_BATCHES: usize = 8;

/// What one read of the rings returned.
#[derive(Debug)]
pub(super) struct RingRead {
    /// The records; there may be none where there are losses.
    pub(super) batch: Batch,
    /// The losses that were found before these records; see [`Rings::take_losses`].
    pub(super) losses: Vec<RingLoss>,
}

/// Why [`drain`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// The rings were empty.
    All,
    /// There may be more in them.
    Part,
}

/// Reads the rings until they are empty, `has_capacity` says no, or [`MOST_BATCHES`] have been read.
///
/// # Errors
/// The first that `each` returns.
pub(super) fn drain<E>(
    rings: &mut Rings,
    has_capacity: impl Fn() -> bool,
    mut each: impl FnMut(&Rings, RingRead) -> Result<(), E>,
) -> Result<Drained, E> {
    for _ in 0..MOST_BATCHES {
        if !has_capacity() {
            return Ok(Drained::Part);
        }
        let batch = rings.drain();
        let losses: Vec<_> = rings.take_losses().collect();
        let is_last = batch.is_empty();
        if !is_last || !losses.is_empty() {
            each(rings, RingRead { batch, losses })?;
        }
        if is_last {
            return Ok(Drained::All);
        }
    }
    Ok(Drained::Part)
}
