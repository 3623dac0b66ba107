//! Minimum and maximum durations of rows over all epochs. The tables of the programs have only those
//! of the latest epochs.

use crate::model::MinMax;

/// The extremes of each row, up to the previous reading.
#[derive(Debug, Default)]
pub(super) struct RowExtremes(Vec<MinMax>);

impl RowExtremes {
    /// Adds the extremes of the latest epoch to a row. Returns those of all epochs.
    pub(super) fn merge(&mut self, row: usize, recent: MinMax) -> MinMax {
        let extremes = self.entry(row);
        extremes.merge(recent);
        *extremes
    }

    /// Does the same as [`RowExtremes::merge`], and resets the row, because another thread may reuse it.
    pub(super) fn take(&mut self, row: usize, recent: MinMax) -> MinMax {
        let mut extremes = std::mem::replace(self.entry(row), MinMax::NONE);
        extremes.merge(recent);
        extremes
    }

    fn entry(&mut self, row: usize) -> &mut MinMax {
        if self.0.len() <= row {
            self.0.resize(row + 1, MinMax::NONE);
        }
        &mut self.0[row]
    }
}
