//! Options of the `exits` view.

/// The order of rows: numbers descending, names ascending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// By number of exits.
    Count,
    /// By total time.
    Time,
    /// By non-idle time.
    Cost,
    /// By shortest duration.
    Min,
    /// By mean duration.
    Mean,
    /// By longest duration.
    Max,
    /// By median duration.
    P50,
    /// By 99th percentile of the durations.
    P99,
    /// By the requested percentile with this index; see [`ExitsOptions::percentiles`].
    Percentile(usize),
    /// By VM, vCPU and reason.
    Name,
}

/// Options of the `exits` view.
#[derive(Debug, Clone)]
pub struct ExitsOptions {
    /// Order of the rows.
    pub sort: SortKey,
    /// Maximum number of rows. Totals and percentages include the hidden rows.
    pub top: Option<usize>,
    /// Percentiles to show, in percent.
    pub percentiles: Vec<f64>,
    /// Whether rows have a histogram.
    pub histograms: bool,
    /// Maximum number of causes per row.
    pub causes: usize,
    /// Whether hot rows have advice.
    pub advice: bool,
    /// Whether preempted time was measured: with `--preempt`, and if a recording has `sched_switch`.
    pub preempt_watched: bool,
}
