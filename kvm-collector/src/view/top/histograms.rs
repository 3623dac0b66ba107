//! Histograms of what is looked at, and of nothing else.

use super::{DurationStats, Scope, TopReading, TopRow, Window};
use crate::{
    model::ExitTotals,
    view::{ExitGroups, GroupKey},
};

/// The histograms of the rows of one scope: of each row at most two, 2.4 KB each.
#[derive(Debug, Default)]
pub struct ScopeHistograms {
    scope: Scope,
    /// Since the beginning.
    all: ExitGroups,
    /// Since the reading before, if that was of the same scope.
    recent: Option<ExitGroups>,
}

impl ScopeHistograms {
    /// Takes in a reading.
    pub fn add_reading(&mut self, reading: &mut TopReading) {
        let groups = std::mem::take(&mut reading.groups);
        // Without an earlier reading all is recent.
        self.recent = (self.scope == reading.scope).then(|| groups.since(&self.all));
        self.all = groups;
        self.scope = reading.scope;
    }

    /// Takes in a reading that was made to have something to subtract from the next.
    pub fn set_base(&mut self, reading: &mut TopReading) {
        self.all = std::mem::take(&mut reading.groups);
        self.recent = None;
        self.scope = reading.scope;
    }

    /// Are these the histograms of a scope? Directly after it was chosen, they have yet to be read.
    #[must_use]
    pub fn is_for_scope(&self, scope: &Scope) -> bool {
        self.scope == *scope
    }

    /// How far back the histograms go that there are for a window: directly after another scope was
    /// chosen, only those since the beginning are known.
    #[must_use]
    pub fn available_window(&self, asked: Window) -> Window {
        match (asked, &self.recent) {
            (Window::Recent, Some(_)) => Window::Recent,
            _ => Window::All,
        }
    }

    /// The histogram of a row, with its totals; `None` if it has none.
    #[must_use]
    pub fn row_totals(&self, row: &GroupKey, asked: Window) -> Option<&ExitTotals> {
        match (asked, &self.recent) {
            (Window::Recent, Some(recent)) => recent.get(row),
            _ => self.all.get(row),
        }
    }

    /// Tells rows of a scope how their exits took.
    pub fn fill_durations(&self, scope: &Scope, window: Window, rows: &mut [TopRow]) {
        if self.is_for_scope(scope) {
            for row in rows {
                row.durations = self.row_totals(&row.key, window).and_then(DurationStats::from_totals);
            }
        }
    }
}
