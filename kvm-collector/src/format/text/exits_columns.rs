//! The columns of an `exits` table that have numbers.

use crate::{
    format::units::{count, duration, percent, rough_duration},
    view::{CauseRow, ExitRow},
};

/// A column with a number per row.
pub(super) struct NumberColumn {
    /// The heading, which is also the name of the column in `--columns`.
    pub(super) heading: String,
    /// Columns with the highest rank are hidden first if a line is too long.
    pub(super) rank: u8,
    /// Whether the number needs at least one exit with a duration.
    pub(super) needs_time: bool,
    cell: Box<dyn Fn(&ExitRow) -> String>,
}

impl NumberColumn {
    fn new(heading: &str, rank: u8, cell: impl Fn(&ExitRow) -> String + 'static) -> Self {
        Self {
            heading: heading.to_owned(),
            rank,
            needs_time: true,
            cell: Box::new(cell),
        }
    }

    fn count(heading: &str, rank: u8, cell: impl Fn(&ExitRow) -> String + 'static) -> Self {
        Self {
            needs_time: false,
            ..Self::new(heading, rank, cell)
        }
    }

    /// Returns the cell of a row: `-` if no exit has a duration, in contrast to a duration of 0.
    pub(super) fn cell(&self, row: &ExitRow) -> String {
        if self.needs_time && !row.is_timed() {
            return NOT_MEASURED.to_owned();
        }
        (self.cell)(row)
    }

    /// Returns the cell of a cause. Causes have only a count, which may be a range, and a time.
    pub(super) fn cause_cell(&self, cause: &CauseRow) -> String {
        match self.heading.as_str() {
            COUNT if cause.at_least == cause.at_most => count(cause.at_least),
            COUNT => format!("{}-{}", count(cause.at_least), count(cause.at_most)),
            TIME => duration(cause.total_ns),
            _ => String::new(),
        }
    }

    /// Returns the cell of the line about causes that are not listed, each of which has at most `at_most` exits.
    pub(super) fn other_causes_cell(&self, at_most: u64) -> String {
        match self.heading.as_str() {
            COUNT => format!("<={}", count(at_most)),
            _ => String::new(),
        }
    }
}

const COUNT: &str = "count";
const TIME: &str = "time";
const PREEMPTED: &str = "preempted";

/// The cell of a number that was not measured.
pub(super) const NOT_MEASURED: &str = "-";

/// Columns that are shown only if they are requested by name.
const ON_REQUEST: [&str; 4] = ["idle", "in-progress", "untimed", PREEMPTED];

/// Returns all columns, in the order of the table. `percentiles` replace the 50th and 99th if there are any.
fn all_columns(percentiles: &[f64]) -> Vec<NumberColumn> {
    let mut columns = vec![
        NumberColumn::count(COUNT, 0, |row| count(row.count)),
        NumberColumn::count("count%", 11, |row| percent(row.count_ratio)),
        NumberColumn::count("in-progress", 3, |row| count(row.open)),
        NumberColumn::count("untimed", 3, |row| count(row.untimed)),
        NumberColumn::new(TIME, 1, |row| duration(row.total_ns)),
        NumberColumn::new("time%", 12, |row| percent(row.time_ratio)),
        NumberColumn::new("cost%", 2, |row| percent(row.cost_ratio)),
        NumberColumn::new("kernel", 8, |row| duration(row.kernel_ns)),
        NumberColumn::new("VMM", 7, |row| duration(row.vmm_ns)),
        NumberColumn::new("halted", 6, |row| duration(row.halted_ns)),
        NumberColumn::new("idle", 6, |row| duration(row.idle_ns)),
        NumberColumn::new(PREEMPTED, 5, |row| {
            row.preempted_ns
                .map_or_else(|| NOT_MEASURED.to_owned(), duration)
        }),
        NumberColumn::new("min", 13, |row| duration(row.min_ns)),
        NumberColumn::new("mean", 4, |row| duration(row.mean_ns)),
        NumberColumn::new("max", 9, |row| duration(row.max_ns)),
    ];
    if percentiles.is_empty() {
        columns.push(NumberColumn::new("p50", 10, |row| {
            rough_duration(row.p50_ns)
        }));
        columns.push(NumberColumn::new("p99", 3, |row| {
            rough_duration(row.p99_ns)
        }));
    }
    for (index, percentile) in percentiles.iter().enumerate() {
        let heading = format!("p{percentile}");
        columns.push(NumberColumn::new(&heading, 3, move |row| {
            let percentile = row.percentiles.get(index);
            percentile.map_or_else(String::new, |it| rough_duration(it.ns))
        }));
    }
    columns
}

/// Returns the names of all columns that `--columns` accepts.
#[must_use]
pub fn exit_column_names(percentiles: &[f64]) -> Vec<String> {
    let columns = all_columns(percentiles).into_iter();
    columns.map(|it| it.heading).collect()
}

/// Returns the columns of a table: the requested ones in the requested order, each once, or the usual ones if none are requested.
/// Preempted time is one of the usual ones if it was measured. Names are compared without regard to case. Unknown names are ignored: they were checked before.
pub(super) fn number_columns(
    requested: &[String],
    percentiles: &[f64],
    preempt_watched: bool,
) -> Vec<NumberColumn> {
    let mut columns = all_columns(percentiles);
    if requested.is_empty() {
        columns.retain(|it| {
            !ON_REQUEST.contains(&it.heading.as_str())
                || (preempt_watched && it.heading == PREEMPTED)
        });
        return columns;
    }
    let position = |name: &String| {
        columns
            .iter()
            .position(|it| it.heading.eq_ignore_ascii_case(name))
    };
    let positions: Vec<_> = requested.iter().filter_map(position).collect();
    let mut columns: Vec<_> = columns.into_iter().map(Some).collect();
    let requested = positions.into_iter().filter_map(|at| columns[at].take());
    // A column that the user requests is not hidden.
    requested
        .map(|column| NumberColumn { rank: 0, ..column })
        .collect()
}
