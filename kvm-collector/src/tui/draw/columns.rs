//! Which columns there are, and which of them fit.

use super::{
    super::{
        App, Sort,
        sort::{busy, float, share},
    },
    canvas::{Look, width_of},
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
const LEAST_NAME: u16 = 14;
/// A trend narrower than this says nothing; where there is room for more, columns wait for it.
const LEAST_TREND: u16 = 8;
const LEAST_TREND_OF_MANY: u16 = 20;
const MANY: u16 = 100;
/// Two samples to a cell are as fine as it needs to be.
const MOST_TREND: u16 = 60;
const _: () = assert!(MOST_TREND as usize * 2 == TREND_SAMPLES);

impl Columns {
    /// The columns for a width: the most important ones first, then drawn in their usual order.
    pub(super) fn of(app: &App, width: u16) -> Self {
        let wanted = wanted(app);
        let mut left = width.saturating_sub(LEAST_NAME);
        let mut chosen = Vec::new();
        let least_trend = if !app.setup.interactive {
            // One reading is no trend.
            u16::MAX
        } else if width < MANY {
            LEAST_TREND
        } else {
            LEAST_TREND_OF_MANY
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
        chosen.sort_by_key(Column::place);
        let longest = app.rows.iter().map(|row| width_of(&label(row)));
        let longest = u16::try_from(longest.max().unwrap_or(0)).unwrap_or(u16::MAX);
        let name = width.min(LEAST_NAME);
        let more_name = left.min(longest.saturating_sub(name));
        if trend > 0 {
            trend = (trend + left - more_name).min(MOST_TREND);
        }
        Self {
            name: name + more_name,
            numbers: chosen,
            trend,
        }
    }
}

/// A row's name, with what there is to say of it.
pub(super) fn label(row: &TopRow) -> String {
    if row.has_ended() {
        format!("{} (ended)", row.name)
    } else {
        row.name.clone()
    }
}

/// The columns that mean anything here, the most important ones first.
fn wanted(app: &App) -> Vec<Column> {
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
    if app.scope().by == crate::view::Group::Vm {
        wanted.push(Column::Vcpus);
    }
    if app.has_no_times() {
        // Where there are no times, a table of dashes would hide what there is.
        wanted.retain(|it| matches!(it, Number(Sort::Exits) | Column::Vcpus));
    }
    // What is sorted by must be seen.
    if let Some(at) = wanted.iter().position(|it| *it == Number(app.sorted_by())) {
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

    fn place(&self) -> usize {
        let place = |sort| Sort::ALL.iter().position(|it| *it == sort).unwrap_or(0) * 2;
        match self {
            Self::Number(sort) => place(*sort),
            Self::Vcpus => place(Sort::Name) + 1,
            Self::Open => place(Sort::Preempted) + 1,
        }
    }

    /// A row's number, as text.
    pub(super) fn cell(self, row: &TopRow, app: &App) -> (String, Look) {
        let seconds = float(app.shown_ns().max(1)) / 1e9;
        let part = |ns: u64, look: Look| {
            let share = share(ns, row.wall_ns);
            // What is next to nothing should not look like something.
            let look = if share < 0.005 { Look::Dim } else { look };
            (units::share(share), look)
        };
        let time = |of: fn(&DurationStats) -> u64| {
            let known = app.histograms.available_window(app.window) == app.window;
            let look = if known || app.window == Window::All {
                Look::Plain
            } else {
                Look::Dim
            };
            match &row.durations {
                Some(times) => (units::short_duration(of(times)), look),
                None => ("-".to_owned(), Look::Dim),
            }
        };
        match self {
            Self::Number(Sort::Exits) => {
                let rate = float(row.breakdown.exits) / seconds;
                (units::short_rate(rate), Look::Plain)
            }
            Self::Number(Sort::Cost) => cost(row.breakdown.busy_ns(), seconds),
            Self::Number(Sort::Busy) => (units::share(busy(row)), Look::Strong),
            Self::Number(Sort::Out) => part(row.breakdown.time_ns, Look::Plain),
            Self::Number(Sort::Guest) => part(row.guest_ns.unwrap_or(0), Look::Guest),
            Self::Number(Sort::Kernel) => part(row.breakdown.kernel_ns, Look::Kernel),
            Self::Number(Sort::Vmm) => part(row.breakdown.vmm_ns, Look::Vmm),
            Self::Number(Sort::Halted) => part(row.breakdown.halted_ns, Look::Idle),
            Self::Number(Sort::Preempted) => part(row.breakdown.preempted_ns, Look::Preempted),
            Self::Open => part(row.breakdown.open_ns, Look::Dim),
            Self::Number(Sort::Mean) => time(|it| it.mean_ns),
            Self::Number(Sort::P50) => time(|it| it.p50_ns),
            Self::Number(Sort::P99) => time(|it| it.p99_ns),
            Self::Number(Sort::Max) => time(|it| it.max_ns),
            Self::Number(Sort::Name) => (String::new(), Look::Plain),
            Self::Vcpus => (units::count(row.vcpus.1 as u64), Look::Plain),
        }
    }
}

/// Time per second, as a time.
fn cost(ns: u64, seconds: f64) -> (String, Look) {
    if ns == 0 {
        return ("-".into(), Look::Dim);
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive time"
    )]
    let per_s = (float(ns) / seconds) as u64;
    (units::short_duration(per_s), Look::Strong)
}
