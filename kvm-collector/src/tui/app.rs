//! What the screen shows and how that changes: no terminal, no clock, no thread.

use std::time::Duration;

use super::{Control, Sort, layout::{Layout, OptionalAreas}};
use crate::view::{
    GroupKey, ScopeHistograms, ReadingHistory, Scope, TopReading, TopRow, ScopeTotals, TrendMetric, Window,
};

/// The intervals there are to choose from.
const INTERVALS_MS: [u64; 9] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// What does not change while it runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What is counted: `vmexit`, or another kind of event.
    pub kind: String,
    /// It is watched when threads are ready and do not run.
    pub preempt_watched: bool,
    /// Use colours.
    pub color: bool,
    /// Somebody is at the keys. A picture that is only printed has all rows, and nothing about keys.
    pub interactive: bool,
}

/// What lies over the screen, and takes the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing.
    None,
    /// What the keys do, from this line on.
    Help(u16),
    /// The filter is being typed; this one was there before.
    Filter(String),
}

/// One level of drilling down.
#[derive(Debug, Clone, Default)]
pub(super) struct Level {
    pub(super) scope: Scope,
    /// The row the cursor is on; without, it is on the first one, whichever that is.
    pub(super) selected: Option<GroupKey>,
    /// What names must contain; the case does not matter.
    pub(super) filter: String,
    /// Rows above the first one on the screen.
    pub(super) offset: usize,
}

/// The state of the screen.
#[derive(Debug)]
pub struct App {
    pub(super) setup: Setup,
    pub(super) history: ReadingHistory,
    pub(super) histograms: ScopeHistograms,
    /// Where we are, and how we came there; never empty.
    levels: Vec<Level>,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) window: Window,
    pub(super) paused: bool,
    pub(super) interval: Duration,
    pub(super) overlay: Overlay,
    /// The histogram pane, if anybody said whether it is wanted.
    pub(super) pane: Option<bool>,
    /// Width and height of the screen.
    pub(super) size: (u16, u16),
    /// The rows of this level that the filter lets through, sorted.
    pub(super) rows: Vec<TopRow>,
    /// How many the filter does not let through.
    pub(super) hidden_by_filter: usize,
    /// Of the host.
    pub(super) totals: ScopeTotals,
    /// Of what is looked at.
    pub(super) scope_totals: ScopeTotals,
}

impl App {
    /// Nothing read yet.
    #[must_use]
    pub fn new(setup: Setup, sort: Sort, interval: Duration, size: (u16, u16)) -> Self {
        Self {
            setup,
            history: ReadingHistory::default(),
            histograms: ScopeHistograms::default(),
            levels: vec![Level::default()],
            sort,
            reverse: false,
            window: Window::Recent,
            paused: false,
            interval,
            overlay: Overlay::None,
            pane: None,
            size,
            rows: Vec::new(),
            hidden_by_filter: 0,
            totals: ScopeTotals::default(),
            scope_totals: ScopeTotals::default(),
        }
    }

    /// Takes in a reading.
    pub fn add_reading(&mut self, mut reading: TopReading) {
        let interval_ns = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        self.histograms.add_reading(&mut reading);
        self.history.add_reading(&reading, interval_ns);
        self.update_rows();
    }

    /// Takes in the histograms from which those of the next reading will be counted.
    pub fn set_histogram_base(&mut self, mut reading: TopReading) {
        self.history.add_names(&reading.names);
        self.histograms.set_base(&mut reading);
        self.update_rows();
    }

    /// Areas of the screen in the current state.
    pub(super) fn layout(&self) -> Layout {
        let wanted = OptionalAreas {
            scope_totals: self.has_scope(),
            loss: !self.history.total_and_recent_loss().0.is_empty(),
            keys: self.setup.interactive,
            pane: self.wants_pane(),
        };
        Layout::new(self.size, wanted)
    }

    /// Takes in a new size.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.size = (width, height);
        self.scroll_to_cursor();
    }

    /// Makes the screen as high as all rows need, or as `most` do.
    pub(super) fn fit_rows(&mut self, width: u16, most: u16) {
        self.resize(width, most);
        let rows = u16::try_from(self.rows.len()).unwrap_or(most);
        // What says that there are none needs room as well.
        let needed = rows.max(4) + self.layout().rows.y;
        self.resize(width, needed.min(most));
    }

    pub(super) fn level(&self) -> &Level {
        // There is always the first.
        &self.levels[self.levels.len() - 1]
    }

    fn level_mut(&mut self) -> &mut Level {
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    /// What is looked at.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.level().scope
    }

    #[cfg(feature = "test-api")]
    /// The rows shown.
    #[must_use]
    pub fn rows(&self) -> &[TopRow] {
        &self.rows
    }

    /// Where the cursor is among the rows.
    #[must_use]
    pub fn cursor(&self) -> usize {
        let selected = self.level().selected;
        selected
            .and_then(|key| self.rows.iter().position(|row| row.key == key))
            .unwrap_or(0)
    }

    /// Is what is looked at less than everything?
    pub(super) fn has_scope(&self) -> bool {
        self.scope().within != GroupKey::default()
    }

    pub(super) fn selected_row(&self) -> Option<&TopRow> {
        self.rows.get(self.cursor())
    }

    /// What trends are of: exits where they are what is asked for, or all there is.
    #[must_use]
    pub fn trend_metric(&self) -> TrendMetric {
        if self.effective_sort() == Sort::Exits {
            TrendMetric::Exits
        } else {
            TrendMetric::Busy
        }
    }

    /// What rows are sorted by: exits, as long as there are no times.
    #[must_use]
    pub fn effective_sort(&self) -> Sort {
        let needs_times = !matches!(self.sort, Sort::Exits | Sort::Name);
        if needs_times && self.has_no_durations() {
            Sort::Exits
        } else {
            self.sort
        }
    }

    /// Has something been counted, but no time seen? So it is where `kvm_exit` does not fire.
    pub(super) fn has_no_durations(&self) -> bool {
        self.totals.breakdown.exits > 0 && !self.history.has_durations()
    }

    /// How long the time shown is.
    #[must_use]
    pub fn window_ns(&self) -> u64 {
        match self.window {
            Window::Recent => self.history.elapsed_ns(),
            Window::All => self.history.time_ns(),
        }
    }

    /// Makes the rows anew, from the same reading.
    fn update_rows(&mut self) {
        let scope = self.scope();
        self.totals = self.history.totals(&GroupKey::default(), self.window);
        self.scope_totals = self.history.totals(&scope.within, self.window);
        let mut rows = self.history.rows(&scope, self.window, self.trend_metric());
        let all = rows.len();
        let filter = self.level().filter.to_lowercase();
        rows.retain(|row| row.name.to_lowercase().contains(&filter));
        self.hidden_by_filter = all - rows.len();
        self.histograms.fill_durations(&scope, self.window, &mut rows);
        self.effective_sort().sort(&mut rows, self.reverse);
        self.rows = rows;
        self.scroll_to_cursor();
    }

    /// Moves what is on the screen so that the cursor is.
    fn scroll_to_cursor(&mut self) {
        let height = usize::from(self.layout().rows.height);
        let (cursor, count) = (self.cursor(), self.rows.len());
        let level = self.level_mut();
        level.offset = level
            .offset
            .min(count.saturating_sub(height))
            .clamp((cursor + 1).saturating_sub(height).min(cursor), cursor);
    }

    pub(super) fn move_by(&mut self, rows: isize) {
        let last = self.rows.len().saturating_sub(1);
        let to = self.cursor().saturating_add_signed(rows).min(last);
        self.select(to);
    }

    pub(super) fn select(&mut self, index: usize) {
        let key = self.rows.get(index).map(|row| row.key);
        self.level_mut().selected = key;
        self.scroll_to_cursor();
    }

    /// To the first row, whichever is that from now on.
    pub(super) fn select_first(&mut self) {
        self.level_mut().selected = None;
        self.scroll_to_cursor();
    }

    pub(super) fn page_rows(&self) -> isize {
        let rows = self.layout().rows.height.saturating_sub(1).max(1);
        isize::try_from(rows).unwrap_or(1)
    }

    /// Into the row the cursor is on; where there is nothing inside, its histogram is shown.
    pub(super) fn drill_down(&mut self) -> Option<Control> {
        let key = self.selected_row()?.key;
        self.level_mut().selected = Some(key);
        match self.scope().drill_down(key) {
            Some(scope) => {
                self.levels.push(Level {
                    scope,
                    ..Level::default()
                });
                self.update_rows();
                Some(Control::SelectScope(scope))
            }
            None => {
                self.pane = Some(true);
                self.scroll_to_cursor();
                None
            }
        }
    }

    /// Back to where we came from.
    pub(super) fn go_back(&mut self) -> Option<Control> {
        if self.levels.len() == 1 {
            return None;
        }
        self.levels.pop();
        self.update_rows();
        Some(Control::SelectScope(self.scope()))
    }

    /// The same exits, by something else.
    pub(super) fn next_grouping(&mut self) -> Option<Control> {
        let scope = self.scope().next_grouping();
        if scope == self.scope() {
            return None;
        }
        *self.level_mut() = Level {
            scope,
            ..Level::default()
        };
        self.update_rows();
        Some(Control::SelectScope(scope))
    }

    pub(super) fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.update_rows();
    }

    pub(super) fn toggle_reverse(&mut self) {
        self.reverse = !self.reverse;
        self.update_rows();
    }

    pub(super) fn toggle_window(&mut self) {
        self.window = match self.window {
            Window::Recent => Window::All,
            Window::All => Window::Recent,
        };
        self.update_rows();
    }

    pub(super) fn toggle_pause(&mut self) -> Control {
        self.paused = !self.paused;
        Control::Pause(self.paused)
    }

    pub(super) fn toggle_pane(&mut self) {
        self.pane = Some(self.layout().pane.is_none());
        self.scroll_to_cursor();
    }

    /// The next longer interval, or the next shorter one.
    pub(super) fn step_interval(&mut self, longer: bool) -> Option<Control> {
        let all = INTERVALS_MS.map(Duration::from_millis);
        let next = if longer {
            all.into_iter().find(|it| *it > self.interval)
        } else {
            all.into_iter().rfind(|it| *it < self.interval)
        };
        self.interval = next?;
        Some(Control::Interval(self.interval))
    }

    pub(super) fn set_filter(&mut self, filter: String) {
        self.level_mut().filter = filter;
        self.update_rows();
    }

    /// Does the histogram pane have a place by itself, where nobody said?
    pub(super) fn wants_pane(&self) -> bool {
        self.pane
            .unwrap_or(self.setup.interactive && self.size.0 >= 140)
    }
}
