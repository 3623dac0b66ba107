//! Why a file cannot be used as a baseline.

/// The reason why a file cannot be used as a baseline. The messages continue a sentence such as
/// "cannot compare with FILE: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaselineError {
    /// The file cannot be read, or is too large.
    #[error("{0}")]
    Unreadable(String),
    /// The file has no line with text.
    #[error("it is empty")]
    Empty,
    /// The last line is not JSON.
    #[error("line {line} is not JSON ({reason}). Is it the complete output of `exits --json`?")]
    NotJson {
        /// Number of the line, starting at 1.
        line: usize,
        /// Message of the JSON parser.
        reason: String,
    },
    /// The last line is JSON, but not an `exits` report.
    #[error("{0}. A baseline must be the output of `exits --json`")]
    OtherView(String),
    /// A field of the report is missing or has an invalid value.
    #[error("line {line} is not a valid `exits` report: {reason}")]
    NotReport {
        /// Number of the line, starting at 1.
        line: usize,
        /// Message of the JSON parser.
        reason: String,
    },
    /// The report covers no time, so it has no rates.
    #[error("its `elapsed_ns` is 0, so it has no rates to compare with")]
    NoTime,
    /// The report counts another kind of event.
    #[error(
        "it was made with --kind {theirs}, but --kind {ours} is requested: use --kind {theirs}, or make the baseline again"
    )]
    OtherKind {
        /// The kind of the baseline.
        theirs: String,
        /// The requested kind.
        ours: String,
    },
    /// The rows of the report are grouped differently.
    #[error(
        "its rows are grouped by {theirs}, but --by {ours} is requested: use --by {theirs}, or make the baseline again"
    )]
    OtherGroups {
        /// The grouping of the baseline.
        theirs: String,
        /// The requested grouping.
        ours: String,
    },
    /// The report is about other VMs, vCPUs, threads or reasons.
    #[error(
        "its selection is {theirs}, but the selection of this command is {ours}: select the same, or make the baseline again"
    )]
    OtherSelection {
        /// The selection of the baseline.
        theirs: String,
        /// The requested selection.
        ours: String,
    },
    /// Only one of the reports measured preemption.
    #[error(
        "it was made {theirs} preempted time, but this report is {ours} it, so idle time and cost differ: measure both in the same way (live: --preempt; recording: `record --preempt`)"
    )]
    OtherPreempt {
        /// `with` or `without`.
        theirs: &'static str,
        /// `with` or `without`.
        ours: &'static str,
    },
}
