//! Histograms of the selected scope's rows.

use super::{DurationStats, Scope, TopReading, TopRow, Window};
use crate::{
    model::ExitTotals,
    view::{ExitGroups, GroupKey},
};

/// Histograms of the rows of one scope, at most two per row, each of 2.4 KB.
#[derive(Debug, Default)]
pub struct ScopeHistograms {
    scope: Scope,
    /// Exits since the start of the measurement.
    all: ExitGroups,
    /// Time of `all`.
    time_ns: u64,
    /// Exits between the last two readings, if `all` was known at the first of them.
    recent: Option<ExitGroups>,
    /// Time of the last reading that was not only a base.
    reading_ns: u64,
}

impl ScopeHistograms {
    /// Moves the histograms out of a reading and updates the recent ones.
    pub fn add_reading(&mut self, reading: &mut TopReading) {
        let groups = std::mem::take(&mut reading.groups);
        // A base that was read within the interval does not cover it. In a recording, it may even be as new
        // as the reading. At the first reading, all exits are recent.
        let covers_interval = self.scope == reading.scope && self.time_ns == self.reading_ns;
        self.recent = covers_interval.then(|| groups.since(&self.all));
        self.all = groups;
        self.scope = reading.scope;
        self.time_ns = reading.time_ns;
        self.reading_ns = reading.time_ns;
    }

    /// Moves the histograms out of a reading, to subtract them from those of the next reading if it is also
    /// the last reading.
    pub fn set_base(&mut self, reading: &mut TopReading) {
        self.all = std::mem::take(&mut reading.groups);
        self.recent = None;
        self.scope = reading.scope;
        self.time_ns = reading.time_ns;
    }

    /// Returns whether the histograms are those of a scope. After a change of scope they are not,
    /// until the next reading.
    #[must_use]
    pub fn is_for_scope(&self, scope: &Scope) -> bool {
        self.scope == *scope
    }

    /// Returns the window that is available in place of the requested one. After a change of scope, only
    /// totals since the start are known until an interval has passed.
    #[must_use]
    pub fn available_window(&self, requested: Window) -> Window {
        match (requested, &self.recent) {
            (Window::Recent, Some(_)) => Window::Recent,
            _ => Window::All,
        }
    }

    /// Returns the totals of a row, which include its histogram; `None` if the row has none.
    #[must_use]
    pub fn row_totals(&self, row: &GroupKey, requested: Window) -> Option<&ExitTotals> {
        match (requested, &self.recent) {
            (Window::Recent, Some(recent)) => recent.totals(row),
            _ => self.all.totals(row),
        }
    }

    /// Sets the duration statistics of rows, if the histograms are those of their scope.
    pub fn fill_durations(&self, scope: &Scope, window: Window, rows: &mut [TopRow]) {
        if self.is_for_scope(scope) {
            for row in rows {
                row.durations = self
                    .row_totals(&row.key, window)
                    .and_then(DurationStats::from_totals);
            }
        }
    }
}
