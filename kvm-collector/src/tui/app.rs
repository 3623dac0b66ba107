//! The state of the screen. It uses no terminal, clock or thread.

use std::time::Duration;

use super::{
    Control, Sort,
    layout::{Layout, OptionalAreas},
    level::{Level, Overlay},
    setup::Setup,
};
use crate::view::{
    GroupKey, ReadingHistory, Scope, ScopeHistograms, ScopeTotals, TopReading, TopRow, TrendMetric,
    Window,
};

/// Intervals that `+` and `-` step through.
const INTERVALS_MS: [u64; 9] = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/// The state of the screen.
#[derive(Debug)]
pub struct App {
    pub(super) setup: Setup,
    pub(super) history: ReadingHistory,
    pub(super) histograms: ScopeHistograms,
    /// Stack of levels; the last one is shown. Never empty.
    levels: Vec<Level>,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) window: Window,
    pub(super) paused: bool,
    /// The recording has ended: there are no more readings.
    pub(super) source_ended: bool,
    /// A short message in the place of the keys, until the next key.
    pub(super) message: Option<String>,
    pub(super) interval: Duration,
    pub(super) overlay: Overlay,
    /// The user's choice to open or to close the histogram pane. Without one, it depends on the screen width.
    pub(super) pane: Option<bool>,
    /// Width and height of the screen.
    pub(super) size: (u16, u16),
    /// Sorted rows of the current level that match the filter.
    pub(super) rows: Vec<TopRow>,
    /// Number of rows that do not match the filter.
    pub(super) hidden_by_filter: usize,
    /// Totals of the host.
    pub(super) totals: ScopeTotals,
    /// Totals of the current scope.
    pub(super) scope_totals: ScopeTotals,
}

impl App {
    /// Creates the state before the first reading. `size` is the width and height of the screen.
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
            source_ended: false,
            message: None,
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

    /// Adds a reading.
    pub fn add_reading(&mut self, mut reading: TopReading) {
        let interval_ns = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        // Shown until a key is pressed, and again with the next reading.
        if let Some(failure) = reading.idle_failure.take() {
            self.message = Some(failure);
        }
        self.histograms.add_reading(&mut reading);
        self.history.add_reading(&reading, interval_ns);
        self.update_rows();
    }

    /// Sets the histograms that are subtracted from those of the next reading of the current scope.
    pub fn set_histogram_base(&mut self, mut reading: TopReading) {
        self.history.add_names(&reading.names);
        self.histograms.set_base(&mut reading);
        self.update_rows();
    }

    /// Shows that the recording has ended.
    pub fn set_source_ended(&mut self) {
        self.source_ended = true;
        if !self.rows.is_empty() {
            self.message = Some("end of the recording: `a` shows all of it".into());
        }
    }

    /// Returns whether a message is shown, which disappears with the next key or after some seconds.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.message.is_some()
    }

    /// Removes the message.
    pub fn clear_message(&mut self) {
        self.message = None;
    }

    /// Returns the areas of the screen in the current state.
    pub(super) fn layout(&self) -> Layout {
        let optional = OptionalAreas {
            scope_totals: self.is_narrowed(),
            loss: !self.history.total_and_recent_loss().0.is_empty(),
            keys: self.setup.interactive,
            pane: self.wants_pane(),
        };
        Layout::new(self.size, optional)
    }

    /// Sets the size of the screen.
    pub fn resize(&mut self, width: u16, height: u16) {
        self.size = (width, height);
        self.scroll_to_cursor();
    }

    /// Makes the screen high enough for all rows, up to `max_height`.
    pub(super) fn fit_rows(&mut self, width: u16, max_height: u16) {
        self.resize(width, max_height);
        let rows = u16::try_from(self.rows.len()).unwrap_or(max_height);
        // The message of an empty table needs four lines.
        let needed = rows.max(4) + self.layout().rows.y;
        self.resize(width, needed.min(max_height));
    }

    pub(super) fn level(&self) -> &Level {
        // The first level is never removed.
        &self.levels[self.levels.len() - 1]
    }

    fn level_mut(&mut self) -> &mut Level {
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    /// Returns the current scope.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.level().scope
    }

    #[cfg(feature = "test-api")]
    /// Returns the rows that match the filter, sorted.
    #[must_use]
    pub fn rows(&self) -> &[TopRow] {
        &self.rows
    }

    /// Returns the index of the row with the cursor.
    #[must_use]
    pub fn cursor(&self) -> usize {
        let selected = self.level().selected;
        selected
            .and_then(|key| self.rows.iter().position(|row| row.key == key))
            .unwrap_or(0)
    }

    /// Returns whether the scope is only a part of the host: a VM, a vCPU or a reason.
    pub(super) fn is_narrowed(&self) -> bool {
        self.scope().within != GroupKey::default()
    }

    pub(super) fn selected_row(&self) -> Option<&TopRow> {
        self.rows.get(self.cursor())
    }

    /// Returns the metric of the trends: exits if rows are sorted by exits, otherwise cost.
    #[must_use]
    pub fn trend_metric(&self) -> TrendMetric {
        if self.effective_sort() == Sort::Exits {
            TrendMetric::Exits
        } else {
            TrendMetric::Cost
        }
    }

    /// Returns the key that rows are sorted by: the user's choice, or exits if that needs durations and
    /// none are known.
    #[must_use]
    pub fn effective_sort(&self) -> Sort {
        let needs_times = !matches!(self.sort, Sort::Exits | Sort::Name);
        if needs_times && self.has_no_durations() {
            Sort::Exits
        } else {
            self.sort
        }
    }

    /// Returns whether events were counted but none has a duration, as on hosts without `kvm_exit` events.
    pub(super) fn has_no_durations(&self) -> bool {
        self.totals.breakdown.exits > 0 && !self.history.has_durations()
    }

    /// Returns the length of the time that the rows cover.
    #[must_use]
    pub fn window_ns(&self) -> u64 {
        match self.window {
            Window::Recent => self.history.elapsed_ns(),
            Window::All => self.history.time_ns(),
        }
    }

    /// Returns the length of the last interval if it is shown, and not as long as the others: the last one of a
    /// recording, or several ones of which nothing was recorded or read.
    pub(super) fn unusual_interval_ns(&self) -> Option<u64> {
        let last = Duration::from_nanos(self.history.elapsed_ns());
        let difference = last.abs_diff(self.interval);
        let is_unusual = difference > self.interval / 10 && !last.is_zero();
        let is_shown = self.window == Window::Recent && is_unusual;
        is_shown.then(|| self.history.elapsed_ns())
    }

    /// Returns whether there are no rows to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Recomputes the rows and totals from the stored readings.
    fn update_rows(&mut self) {
        let scope = self.scope();
        self.totals = self.history.totals(&GroupKey::default(), self.window);
        self.scope_totals = self.history.totals(&scope.within, self.window);
        let mut rows = self.history.rows(&scope, self.window, self.trend_metric());
        let all = rows.len();
        let filter = self.level().filter.to_lowercase();
        rows.retain(|row| row.name.to_lowercase().contains(&filter));
        self.hidden_by_filter = all - rows.len();
        self.histograms
            .fill_durations(&scope, self.window, &mut rows);
        self.effective_sort().sort(&mut rows, self.reverse);
        self.rows = rows;
        self.scroll_to_cursor();
    }

    /// Scrolls so that the row with the cursor is visible.
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

    /// Moves the cursor to the first row, and keeps it there while rows are re-sorted.
    pub(super) fn select_first(&mut self) {
        self.level_mut().selected = None;
        self.scroll_to_cursor();
    }

    pub(super) fn page_rows(&self) -> isize {
        let rows = self.layout().rows.height.saturating_sub(1).max(1);
        isize::try_from(rows).unwrap_or(1)
    }

    /// Opens the row with the cursor. A row without sub-rows opens the histogram pane.
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

    /// Returns to the previous level.
    pub(super) fn go_back(&mut self) -> Option<Control> {
        if self.levels.len() == 1 {
            return None;
        }
        self.levels.pop();
        self.update_rows();
        Some(Control::SelectScope(self.scope()))
    }

    /// Groups the same exits by the next key.
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

    /// Selects the next longer or next shorter interval.
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

    /// Returns whether the histogram pane is shown: by choice of the user, or because the screen is wide.
    pub(super) fn wants_pane(&self) -> bool {
        self.pane
            .unwrap_or(self.setup.interactive && self.size.0 >= 140)
    }
}
