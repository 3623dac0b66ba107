//! Which columns there are, and which of them fit.

use super::{
    super::{
        App, Sort,
        sort::{busy_share, to_f64, share},
    },
    canvas::{TextRole, text_width},
};
use crate::{
    format::units,
    view::{DurationStats, TREND_SAMPLES, TopRow, Window},
};

/// What a column of numbers shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// A number that rows can be sorted by.
    Number(Sort),
    /// The share of time of what is not over.
    Open,
    /// How many vCPUs.
    Vcpus,
}

/// The columns that fit, and how wide the others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) name: u16,
    pub(super) numbers: Vec<Column>,
    /// 0 if it does not fit.
    pub(super) trend: u16,
}

/// A name is this wide at least, and no wider than it needs to be.
const MIN_NAME_WIDTH: u16 = 14;
/// A trend narrower than this says nothing; where there is room for more, columns wait for it.
const MIN_TREND_WIDTH: u16 = 8;
const MIN_TREND_WIDTH_ON_WIDE_SCREEN: u16 = 20;
const WIDE_SCREEN: u16 = 100;
/// Two samples to a cell are as fine as it needs to be.
const MAX_TREND_WIDTH: u16 = 60;
const _: () = assert!(MAX_TREND_WIDTH as usize * 2 == TREND_SAMPLES);

impl Columns {
    /// The columns for a width: the most important ones first, then drawn in their usual order.
    pub(super) fn fit(app: &App, width: u16) -> Self {
        let wanted = columns_by_importance(app);
        let mut left = width.saturating_sub(MIN_NAME_WIDTH);
        let mut chosen = Vec::new();
        let least_trend = if !app.setup.interactive {
            // One reading is no trend.
            u16::MAX
        } else if width < WIDE_SCREEN {
            MIN_TREND_WIDTH
        } else {
            MIN_TREND_WIDTH_ON_WIDE_SCREEN
        };
        // A trend says more than the last columns do.
        let trend_after = 7;
        let mut trend = 0;
        for (index, column) in wanted.iter().enumerate() {
            if index == trend_after && left > least_trend {
                trend = least_trend;
                left -= least_trend + 1;
            }
            let needed = column.width() + 1;
            if needed > left {
                break;
            }
            left -= needed;
            chosen.push(*column);
        }
        if trend == 0 && left > least_trend {
            trend = least_trend;
            left -= least_trend + 1;
        }
        chosen.sort_by_key(Column::position);
        let longest = app.rows.iter().map(|row| text_width(&row_label(row)));
        let longest = u16::try_from(longest.max().unwrap_or(0)).unwrap_or(u16::MAX);
        let name = width.min(MIN_NAME_WIDTH);
        let more_name = left.min(longest.saturating_sub(name));
        if trend > 0 {
            trend = (trend + left - more_name).min(MAX_TREND_WIDTH);
        }
        Self {
            name: name + more_name,
            numbers: chosen,
            trend,
        }
    }
}

/// A row's name, with what there is to say of it.
pub(super) fn row_label(row: &TopRow) -> String {
    if row.has_ended() {
        format!("{} (ended)", row.name)
    } else {
        row.name.clone()
    }
}

/// The columns that mean anything here, the most important ones first.
fn columns_by_importance(app: &App) -> Vec<Column> {
    use Column::Number;
    let whole_vcpus = app.rows.iter().any(|row| row.guest_ns.is_some());
    let mut wanted = vec![Number(Sort::Exits), Number(Sort::Cost), Number(Sort::Busy)];
    if whole_vcpus {
        wanted.push(Number(Sort::Guest));
    }
    wanted.extend([
        Number(Sort::Kernel),
        Number(Sort::Vmm),
        Number(Sort::Halted),
    ]);
    if app.setup.preempt_watched {
        wanted.push(Number(Sort::Preempted));
    }
    wanted.extend([
        Number(Sort::P99),
        Number(Sort::P50),
        Number(Sort::Out),
        Number(Sort::Max),
        Number(Sort::Mean),
        Column::Open,
    ]);
    if app.scope().by == crate::view::GroupBy::Vm {
        wanted.push(Column::Vcpus);
    }
    if app.has_no_durations() {
        // Where there are no times, a table of dashes would hide what there is.
        wanted.retain(|it| matches!(it, Number(Sort::Exits) | Column::Vcpus));
    }
    // What is sorted by must be seen.
    if let Some(at) = wanted.iter().position(|it| *it == Number(app.effective_sort())) {
        wanted[..=at].rotate_right(1);
    }
    wanted
}

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Number(sort) => sort.name(),
            Self::Open => "open%",
            Self::Vcpus => "vCPUs",
        }
    }

    pub(super) fn width(self) -> u16 {
        match self {
            Self::Number(Sort::Exits) => 9,
            Self::Number(Sort::Cost | Sort::Mean | Sort::P50 | Sort::P99 | Sort::Max) => 6,
            Self::Number(Sort::Guest) => 6,
            Self::Number(_) | Self::Open | Self::Vcpus => 5,
        }
    }

    fn position(&self) -> usize {
        let place = |sort| Sort::ALL.iter().position(|it| *it == sort).unwrap_or(0) * 2;
        match self {
            Self::Number(sort) => place(*sort),
            Self::Vcpus => place(Sort::Name) + 1,
            Self::Open => place(Sort::Preempted) + 1,
        }
    }

    /// A row's number, as text.
    pub(super) fn cell(self, row: &TopRow, app: &App) -> (String, TextRole) {
        let seconds = to_f64(app.window_ns().max(1)) / 1e9;
        let part = |ns: u64, look: TextRole| {
            let share = share(ns, row.wall_ns);
            // What is next to nothing should not look like something.
            let look = if share < 0.005 { TextRole::Dim } else { look };
            (units::share(share), look)
        };
        let time = |of: fn(&DurationStats) -> u64| {
            let known = app.histograms.available_window(app.window) == app.window;
            let look = if known || app.window == Window::All {
                TextRole::Plain
            } else {
                TextRole::Dim
            };
            match &row.durations {
                Some(times) => (units::short_duration(of(times)), look),
                None => ("-".to_owned(), TextRole::Dim),
            }
        };
        match self {
            Self::Number(Sort::Exits) => {
                let rate = to_f64(row.breakdown.exits) / seconds;
                (units::short_rate(rate), TextRole::Plain)
            }
            Self::Number(Sort::Cost) => cost_cell(row.breakdown.busy_ns(), seconds),
            Self::Number(Sort::Busy) => (units::share(busy_share(row)), TextRole::Strong),
            Self::Number(Sort::Out) => part(row.breakdown.time_ns, TextRole::Plain),
            Self::Number(Sort::Guest) => part(row.guest_ns.unwrap_or(0), TextRole::Guest),
            Self::Number(Sort::Kernel) => part(row.breakdown.kernel_ns, TextRole::Kernel),
            Self::Number(Sort::Vmm) => part(row.breakdown.vmm_ns, TextRole::Vmm),
            Self::Number(Sort::Halted) => part(row.breakdown.halted_ns, TextRole::Idle),
            Self::Number(Sort::Preempted) => part(row.breakdown.preempted_ns, TextRole::Preempted),
            Self::Open => part(row.breakdown.open_ns, TextRole::Dim),
            Self::Number(Sort::Mean) => time(|it| it.mean_ns),
            Self::Number(Sort::P50) => time(|it| it.p50_ns),
            Self::Number(Sort::P99) => time(|it| it.p99_ns),
            Self::Number(Sort::Max) => time(|it| it.max_ns),
            Self::Number(Sort::Name) => (String::new(), TextRole::Plain),
            Self::Vcpus => (units::count(row.vcpus.1 as u64), TextRole::Plain),
        }
    }
}

/// Time per second, as a time.
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
