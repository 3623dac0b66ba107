//! Selects the columns that fit on the screen, and formats their cells.

use super::{
    super::{
        App, Sort,
        sort::{overhead, share, to_f64},
    },
    canvas::{TextRole, text_width},
};
use crate::{
    format::units,
    model::VMEXIT,
    view::{DurationStats, GroupBy, TREND_SAMPLES, TopRow, Window},
};

/// A column of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// A value that rows can be sorted by.
    Number(Sort),
    /// Time of exits in progress, as a share of the vCPU time.
    Open,
    /// Number of vCPUs.
    Vcpus,
}

/// The columns that fit, and the widths of the name and trend columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// Width of the names.
    pub(super) name: u16,
    /// Columns of numbers with their widths, in the order of the screen.
    pub(super) numbers: Vec<(Column, u16)>,
    /// Width of the trend; 0 if it does not fit.
    pub(super) trend: u16,
}

/// Minimum width of the names.
const MIN_NAME_WIDTH: u16 = 14;
/// Minimum width of the part of a name that may be cut.
const MIN_HEAD_WIDTH: u16 = 6;
/// Maximum width that names with a state and long names of numbers get before other columns: `port 0x3f8 out (COM1 data)`.
const NUMBER_NAME_WIDTH: u16 = 26;
/// Minimum width of a trend on screens narrower than [`WIDE_SCREEN`].
const MIN_TREND_WIDTH: u16 = 6;
/// Minimum width of a trend on other screens.
const MIN_TREND_WIDTH_ON_WIDE_SCREEN: u16 = 20;
/// Minimum width of a wide screen.
const WIDE_SCREEN: u16 = 100;
/// Maximum width of a trend: two samples per cell.
const MAX_TREND_WIDTH: u16 = 60;
const _: () = assert!(MAX_TREND_WIDTH as usize * 2 == TREND_SAMPLES);

impl Columns {
    /// Selects the columns for a width. The most important ones are selected first.
    pub(super) fn fit(app: &App, width: u16) -> Self {
        let columns = columns_by_importance(app);
        let label_width = |row| {
            let (name, tail) = row_label(row);
            text_width(name) + text_width(&tail)
        };
        let longest = app.rows.iter().map(label_width);
        let longest = u16::try_from(longest.max().unwrap_or(0)).unwrap_or(u16::MAX);
        let longest_tail = app.rows.iter().map(|row| row.name_tail).max();
        let longest_tail = u16::try_from(longest_tail.unwrap_or(0)).unwrap_or(u16::MAX);
        let has_number_names = app.scope().by == GroupBy::Reason && app.setup.kind != VMEXIT;
        // The state follows the name.
        let has_states = app.rows.iter().any(|row| row.activity.is_some());
        let min_name = if has_number_names || has_states {
            longest.clamp(MIN_NAME_WIDTH, NUMBER_NAME_WIDTH)
        } else {
            // Enough for what distinguishes the rows, and a part of the name.
            let needed = longest_tail.saturating_add(MIN_HEAD_WIDTH);
            longest.min(needed).clamp(MIN_NAME_WIDTH, NUMBER_NAME_WIDTH)
        };
        let mut left = width.saturating_sub(min_name);
        let mut selected = Vec::new();
        let min_trend = if !app.setup.interactive {
            // `--once` has one reading, so there is no trend.
            u16::MAX
        } else if width < WIDE_SCREEN {
            MIN_TREND_WIDTH
        } else {
            MIN_TREND_WIDTH_ON_WIDE_SCREEN
        };
        // The trend is more important than the columns after the seventh.
        let trend_after = 7;
        let mut trend = 0;
        for (index, column) in columns.iter().enumerate() {
            if index == trend_after && left > min_trend {
                trend = min_trend;
                left -= min_trend + 1;
            }
            let cells = column.width(app);
            if cells + 1 > left {
                break;
            }
            left -= cells + 1;
            selected.push((*column, cells));
        }
        if trend == 0 && left > min_trend {
            trend = min_trend;
            left -= min_trend + 1;
        }
        selected.sort_by_key(|(column, _)| column.position());
        let name = width.min(min_name);
        let more_name = left.min(longest.saturating_sub(name));
        if trend > 0 {
            trend = (trend + left - more_name).min(MAX_TREND_WIDTH);
        }
        Self {
            name: name + more_name,
            numbers: selected,
            trend,
        }
    }
}

/// Returns the name of a row, and its end that must not be cut, which says also whether its VM or vCPU has ended, or what it
/// does if it made no exits.
pub(super) fn row_label(row: &TopRow) -> (&str, String) {
    let (name, tail) = row.name.split_at(row.name.len() - row.name_tail);
    let state = match row.activity {
        _ if row.has_ended => " (ended)".to_owned(),
        Some(activity) => format!(" ({})", activity.text()),
        None => String::new(),
    };
    (name, format!("{tail}{state}"))
}

/// Returns the columns that apply to the current rows, the most important ones first.
fn columns_by_importance(app: &App) -> Vec<Column> {
    use Column::Number;
    let whole_vcpus = app.rows.iter().any(|row| row.guest_ns.is_some());
    let mut columns = vec![
        Number(Sort::Exits),
        Number(Sort::Cost),
        Number(Sort::Overhead),
    ];
    if whole_vcpus {
        columns.push(Number(Sort::Guest));
    }
    columns.extend([Number(Sort::Kernel), Number(Sort::Vmm), Number(Sort::Idle)]);
    if app.setup.preempt_watched {
        columns.push(Number(Sort::Preempted));
    }
    columns.extend([
        Number(Sort::P99),
        Number(Sort::P50),
        Number(Sort::Out),
        Number(Sort::Max),
        Number(Sort::Mean),
        Column::Open,
    ]);
    if app.scope().by == GroupBy::Vm {
        columns.push(Column::Vcpus);
    }
    if app.has_no_durations() {
        // Without durations, the other columns would only have dashes.
        columns.retain(|it| matches!(it, Number(Sort::Exits) | Column::Vcpus));
    }
    // Always show the column that rows are sorted by.
    if let Some(at) = columns
        .iter()
        .position(|it| *it == Number(app.effective_sort()))
    {
        columns[..=at].rotate_right(1);
    }
    columns
}

impl Column {
    /// Returns whether the column shows time.
    fn is_time(self) -> bool {
        !matches!(self, Self::Number(Sort::Exits | Sort::Name) | Self::Vcpus)
    }

    pub(super) fn title(self, app: &App) -> &'static str {
        match self {
            Self::Number(sort) => app.sort_heading(sort),
            Self::Open => "open%",
            Self::Vcpus => "vCPUs",
        }
    }

    /// Returns whether rows are sorted by this column.
    pub(super) fn is_sorted(self, app: &App) -> bool {
        self == Self::Number(app.effective_sort())
    }

    /// Returns the width: that of the numbers, or of the heading with the arrow if rows are sorted by it.
    fn width(self, app: &App) -> u16 {
        let numbers = match self {
            Self::Number(Sort::Exits) => 8,
            Self::Number(Sort::Cost | Sort::Mean | Sort::P50 | Sort::P99 | Sort::Max) => 6,
            Self::Number(_) | Self::Open | Self::Vcpus => 5,
        };
        let heading = text_width(self.title(app)) + usize::from(self.is_sorted(app));
        numbers.max(u16::try_from(heading).unwrap_or(u16::MAX))
    }

    /// Position of the column on the screen.
    fn position(self) -> usize {
        let place = |sort| Sort::ALL.iter().position(|it| *it == sort).unwrap_or(0) * 2;
        match self {
            Self::Number(sort) => place(sort),
            Self::Vcpus => place(Sort::Name) + 1,
            Self::Open => place(Sort::Preempted) + 1,
        }
    }

    /// Returns the text of a cell and its style.
    pub(super) fn cell(self, row: &TopRow, app: &App) -> (String, TextRole) {
        let seconds = to_f64(app.window_ns().max(1)) / 1e9;
        let part = |ns: u64, role: TextRole| {
            let share = share(ns, row.wall_ns);
            // Do not emphasize values that are nearly zero.
            let role = if share < 0.005 { TextRole::Dim } else { role };
            (units::share(share), role)
        };
        let formatted = |field: fn(&DurationStats) -> u64, format: fn(u64) -> String| {
            let has_window = app.histograms.available_window(app.window) == app.window;
            let role = if has_window || app.window == Window::All {
                TextRole::Plain
            } else {
                TextRole::Dim
            };
            match &row.durations {
                Some(times) => (format(field(times)), role),
                None => ("-".to_owned(), TextRole::Dim),
            }
        };
        let time = |field| formatted(field, units::short_duration);
        // A percentile is as accurate as the buckets of the histogram.
        let percentile = |field| formatted(field, units::short_rough_duration);
        match self {
            // The programs have not seen any vCPU of the row.
            _ if row.has_unknown_times() && self.is_time() => ("-".to_owned(), TextRole::Dim),
            Self::Number(Sort::Exits) => {
                let rate = to_f64(row.breakdown.exits) / seconds;
                (units::short_rate(rate), TextRole::Plain)
            }
            Self::Number(Sort::Cost) => cost_cell(row.breakdown.cost_ns(), seconds),
            Self::Number(Sort::Overhead) => (units::share(overhead(row)), TextRole::Strong),
            Self::Number(Sort::Out) => part(row.breakdown.time_ns, TextRole::Plain),
            Self::Number(Sort::Guest) => part(row.guest_ns.unwrap_or(0), TextRole::Guest),
            Self::Number(Sort::Kernel) => part(row.breakdown.kernel_ns, TextRole::Kernel),
            Self::Number(Sort::Vmm) => part(row.breakdown.vmm_ns, TextRole::Vmm),
            Self::Number(Sort::Idle) => part(row.breakdown.idle_ns, TextRole::Idle),
            Self::Number(Sort::Preempted) => part(row.breakdown.preempted_ns, TextRole::Preempted),
            Self::Open => part(row.breakdown.open_ns, TextRole::Dim),
            Self::Number(Sort::Mean) => time(|it| it.mean_ns),
            Self::Number(Sort::P50) => percentile(|it| it.p50_ns),
            Self::Number(Sort::P99) => percentile(|it| it.p99_ns),
            Self::Number(Sort::Max) => time(|it| it.max_ns),
            Self::Number(Sort::Name) => (String::new(), TextRole::Plain),
            Self::Vcpus => (units::count(row.vcpus.1 as u64), TextRole::Plain),
        }
    }
}

/// Formats cost per second.
fn cost_cell(ns: u64, seconds: f64) -> (String, TextRole) {
    if ns == 0 {
        return ("-".into(), TextRole::Dim);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive time"
    )]
    let per_s = (to_f64(ns) / seconds) as u64;
    (units::short_duration(per_s), TextRole::Strong)
}
