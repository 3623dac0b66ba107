//! Arguments of `exits`.

use std::{path::Path, time::Duration};

use clap::{Args, ValueEnum};

use super::writer::Writer;
use crate::{
    bounds::each_once,
    cli::{
        baseline::BaselineArgs,
        event_formats::EventFormats,
        global::GlobalOptions,
        no_match,
        number::{parse_count, parse_number},
        output::{OutputArgs, OutputFormat, ReportOutput},
        recording::InputArgs,
        sandbox::RecordingFiles,
        selection::{ReasonArgs, TargetArgs},
        stop::{OverheadArgs, StopArgs, parse_duration, parse_interval},
        text_heading::{TextHeading, what_is_counted},
        timing,
        usage::bail_usage,
    },
    format::text::exit_column_names,
    model::{EventKind, Loss, VMEXIT},
    source::LiveOptions,
    timing::{DetailEvent, Selection, TimingRequest},
    tracefs::{did_you_mean, similar_names},
    view::{ExitsOptions, GroupBy, LossReport, ReportOrigin, SelectedBy, SortKey},
};

/// Show count and time of VM exits per reason, VM and vCPU
///
/// The time of a VM exit is from kvm_exit to the next kvm_entry of the same thread. It is split
/// into VMM (in user space), halted, preempted (if measured: --preempt) and kernel time. Counts, times,
/// minima and maxima are exact. Percentiles come from a histogram in the kernel and are accurate to
/// 5 %.
///
/// idle is the time during which the guest had nothing to do: halted in the kernel, or in the VMM
/// because of a halt. cost is the rest of the time of the exits. cost% is the share of a row in the
/// cost of all rows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector exits -d 10s                      by reason, for ten seconds
  kvm-collector exits --by vm,vcpu,reason --sort mean --top 20
  kvm-collector exits -I 1s --vm 'web-*' --reason 'npf,EPT_*' --hist
  kvm-collector exits --kind mmio                 by address; also pio, msr, userspace, ...
  kvm-collector exits --causes 3                  with the three most frequent causes of each reason
  kvm-collector exits --advice -d 10s             with tuning advice
  kvm-collector exits -d 10s --json -o before.json
  kvm-collector exits -d 10s --baseline before.json
                                                  compare with the earlier report
  kvm-collector exits --slow 1ms                  also print each exit that takes longer
  kvm-collector exits -i perf.data --by vm        from a recording
  kvm-collector exits -i perf.data --from 10s --until 12s
                                                  from a part of it
  kvm-collector exits -i 'hosts/*.data' --by host,reason
                                                  the sum of recordings of several hosts")]
pub(in crate::cli) struct ExitsArgs {
    #[command(flatten)]
    pub(in crate::cli) input: InputArgs,

    #[command(flatten)]
    pub(super) target: TargetArgs,

    #[command(flatten)]
    pub(super) reasons: ReasonArgs,

    #[command(flatten)]
    pub(super) stop: StopArgs,
    #[command(flatten)]
    pub(super) overhead: OverheadArgs,

    /// Print a report after each interval (100ms, 1s) and the total at the end
    ///
    /// The last interval may be shorter. CSV has no total, because the intervals add up to it.
    #[arg(short = 'I', long, value_name = "TIME", value_parser = parse_interval, help_heading = "Duration")]
    pub(super) interval: Option<Duration>,

    #[command(flatten)]
    pub(super) output: OutputArgs,

    /// Count this kind of event
    ///
    /// Kinds: vmexit (by exit reason), userspace, mmio, pio, msr, hypercall, cpuid, page-fault, sysreg
    /// (arm64), or a field of any kvm event (kvm_eoi.vector).
    #[arg(
        long,
        value_name = "KIND",
        default_value = VMEXIT,
        help_heading = "Selection"
    )]
    pub(super) kind: String,

    /// Group rows by these keys, such as vm,reason
    #[arg(
        long,
        value_name = "KEY",
        value_delimiter = ',',
        default_value = "reason",
        help_heading = "Output"
    )]
    pub(super) by: Vec<GroupKey>,

    /// Sort rows by this key, largest first; with --baseline by the size of its change [default: time; with --baseline, cost]
    ///
    /// Keys: count, time, cost, min, mean, max, p50, p99, name, or a percentile of --percentiles
    /// (p95).
    #[arg(long, value_name = "KEY", value_parser = parse_sort, help_heading = "Output")]
    pub(super) sort: Option<SortArg>,

    /// Show only the first N rows
    ///
    /// Totals, percentages and footers include the hidden rows.
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Output")]
    pub(super) top: Option<usize>,

    /// Show these percentiles (90,99.9) instead of the 50th and 99th
    #[arg(
        long,
        value_name = "PERCENT",
        value_delimiter = ',',
        value_parser = parse_percentile,
        help_heading = "Output"
    )]
    pub(super) percentiles: Vec<f64>,

    /// Show these columns of numbers (count,time,p99), in this order
    ///
    /// By default, all usual columns that fit into the width of the terminal are shown. In a file or
    /// a pipe, all of them are. Requested columns are always shown, even if the lines become wider
    /// than the terminal. idle, in-progress and untimed are shown only if requested here.
    #[arg(
        long,
        value_name = "COLUMN",
        value_delimiter = ',',
        conflicts_with = "baseline",
        help_heading = "Output"
    )]
    pub(super) columns: Vec<String>,

    /// Also show a histogram for each row
    #[arg(long, help_heading = "Output")]
    pub(super) hist: bool,

    /// Show the N most frequent causes below each row; N is 5 if omitted
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = false,
        default_missing_value = "5",
        value_parser = parse_count,
        help_heading = "Output"
    )]
    pub(super) causes: Option<usize>,

    /// Collect these kinds of causes [default: mmio,pio,msr,hypercall,cpuid,page-fault,sysreg]
    ///
    /// Kinds: rip (the instruction pointer of the guest), or any value of --kind except vmexit.
    #[arg(
        long,
        value_name = "KIND",
        value_delimiter = ',',
        help_heading = "Output"
    )]
    pub(super) cause: Vec<String>,

    /// Print tuning advice for expensive rows
    ///
    /// A row is expensive if it has at least 5 % of the exits or of the non-idle time of its VM or
    /// vCPU, and if that is at least 1 ms per second, and 1 % of the time of the vCPUs. Also collects
    /// causes. docs/advice.md explains the advice.
    #[arg(long, help_heading = "Output")]
    pub(super) advice: bool,

    #[command(flatten)]
    pub(super) baseline: BaselineArgs,

    /// Also print each exit that takes longer than this, excluding halted time
    ///
    /// An exit is printed when it ends, above the report of its interval.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Output")]
    pub(super) slow: Option<Duration>,

    /// Measure preemption: the time a runnable vCPU thread waits for a CPU
    ///
    /// Adds an eBPF program to sched_switch, so every context switch on the host costs slightly
    /// more. Of a recording with sched_switch, this time is always measured; with this option, a
    /// recording without it is an error.
    #[arg(long, help_heading = "Selection")]
    pub(super) preempt: bool,

    /// Maximum number of (thread, reason) rows [default: 25 per vCPU, at least 4096]
    ///
    /// A row takes 2.5 KB of kernel memory.
    #[arg(long, value_name = "N", help_heading = "Output",
          value_parser = parse_max_rows, conflicts_with = "input")]
    pub(super) max_rows: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum GroupKey {
    /// The host. Rows by VM have it too if recordings are of several hosts
    Host,
    /// The VM
    Vm,
    /// The vCPU
    Vcpu,
    /// The exit reason, or the value that --kind selects
    Reason,
}

/// Value of `--sort`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SortArg {
    /// A key that needs no other option.
    Key(SortName),
    /// A percentile, in percent.
    Percentile(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum SortName {
    /// Number of exits
    Count,
    /// Total time
    Time,
    /// Time without idle time
    Cost,
    /// Shortest time
    Min,
    /// Mean time
    Mean,
    /// Longest time
    Max,
    /// VM, vCPU and reason
    Name,
}

/// Parses `count`, or a percentile such as `p99`.
fn parse_sort(text: &str) -> Result<SortArg, String> {
    if let Ok(name) = SortName::from_str(text, true) {
        return Ok(SortArg::Key(name));
    }
    let percentile = text.starts_with(['p', 'P']).then(|| parse_percentile(text));
    if let Some(Ok(percent)) = percentile {
        return Ok(SortArg::Percentile(percent));
    }
    let names = SortName::value_variants().iter();
    let names = names.filter_map(|it| Some(it.to_possible_value()?.get_name().to_owned()));
    let names: Vec<_> = names.collect();
    Err(format!(
        "give {}, or a percentile such as p99{}",
        names.join(", "),
        did_you_mean(&similar_names(names.iter().map(String::as_str), text))
    ))
}

fn parse_percentile(text: &str) -> Result<f64, String> {
    let number = text.strip_prefix(['p', 'P']).unwrap_or(text);
    match number.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a percentile is a number from 0 to 100, such as 95, p95 or 99.9".into()),
    }
}

fn parse_max_rows(text: &str) -> Result<u32, String> {
    parse_number(text, 1..=1_000_000)
}

impl ExitsArgs {
    /// Returns what is requested from the running kernel.
    pub(in crate::cli) fn live_options(
        &self,
        timing: &TimingRequest,
        selection: Selection,
    ) -> LiveOptions {
        LiveOptions {
            entry: timing.entry.clone(),
            timing: Some(timing.clone()),
            selection,
            sizes: timing::map_sizes(self.max_rows),
            ..LiveOptions::default()
        }
    }

    /// Returns the recordings, the baseline and the outputs.
    pub(in crate::cli) fn files(&self) -> RecordingFiles {
        let mut inputs = self.input.input.clone();
        if !inputs.is_empty() {
            inputs.extend(self.baseline.file().map(Path::to_owned));
        }
        RecordingFiles {
            inputs,
            outputs: self.output.files(),
        }
    }

    /// Returns the same arguments, in which each list has each value once. Each column of --columns is shown once anyway.
    pub(super) fn with_each_value_once(self) -> Self {
        Self {
            by: each_once(self.by),
            percentiles: each_once(self.percentiles),
            cause: each_once(self.cause),
            ..self
        }
    }

    /// Returns the grouping, without the host.
    pub(super) fn group_by(&self) -> Vec<GroupBy> {
        let group = |by: &GroupKey| match by {
            GroupKey::Host => None,
            GroupKey::Vm => Some(GroupBy::Vm),
            GroupKey::Vcpu => Some(GroupBy::Vcpu),
            GroupKey::Reason => Some(GroupBy::Reason),
        };
        self.by.iter().filter_map(group).collect()
    }

    /// Returns whether rows are grouped by host.
    pub(super) fn is_by_host(&self) -> bool {
        self.by.iter().any(|it| matches!(it, GroupKey::Host))
    }

    /// Checks that no comparison is requested, because rows of hosts cannot be compared.
    pub(super) fn check_without_baseline(&self) -> anyhow::Result<()> {
        if self.baseline.is_given() {
            bail_usage!(
                "--baseline cannot be used with rows by host: select one host, or group by reason only"
            );
        }
        Ok(())
    }

    fn sort_key(&self) -> Option<SortKey> {
        let name = match self.sort? {
            SortArg::Key(name) => name,
            SortArg::Percentile(percent) => return Some(self.percentile_key(percent)),
        };
        Some(match name {
            SortName::Count => SortKey::Count,
            SortName::Time => SortKey::Time,
            SortName::Cost => SortKey::Cost,
            SortName::Min => SortKey::Min,
            SortName::Mean => SortKey::Mean,
            SortName::Max => SortKey::Max,
            SortName::Name => SortKey::Name,
        })
    }

    /// Returns the key for a percentile. [`check_options`](super::conflicts::check_options) ensures that a
    /// percentile other than the 50th and 99th is requested. A comparison can be sorted only by the 99th.
    fn percentile_key(&self, percent: f64) -> SortKey {
        let index = self.percentiles.iter().position(|it| *it == percent);
        match index {
            Some(index) => SortKey::Percentile(index),
            None if percent == 99.0 => SortKey::P99,
            None => SortKey::P50,
        }
    }

    fn view_options(&self, preempt_watched: bool) -> ExitsOptions {
        ExitsOptions {
            sort: self.sort_key().unwrap_or(SortKey::Time),
            // A comparison needs all rows. --top limits the rows of the result.
            top: self.top.filter(|_| !self.baseline.is_given()),
            percentiles: self.percentiles.clone(),
            histograms: self.hist,
            causes: self.causes.unwrap_or(0),
            advice: self.advice,
            preempt_watched,
        }
    }

    /// Builds the request to time exits of these formats.
    pub(in crate::cli) fn timing_request(
        &self,
        formats: &EventFormats<'_>,
    ) -> anyhow::Result<TimingRequest> {
        let counted = match self.kind.as_str() {
            VMEXIT => None,
            name => Some(EventKind::from_name(name)?),
        };
        let mut request = timing::timing_request(formats, counted, self.preempt)?;
        request.slow_threshold = self.slow;
        if self.causes.is_none() && self.slow.is_none() && !self.advice {
            return Ok(request);
        }
        for name in &self.cause {
            match name.as_str() {
                "rip" => request.rip_is_cause = true,
                name => request
                    .cause_events
                    .push(formats.require_kind(EventKind::from_name(name)?)?),
            }
        }
        if self.cause.is_empty() {
            request.cause_events = timing::default_cause_events(formats)?;
        }
        let counted = request
            .counted_event
            .as_ref()
            .map(|it| it.kind.event.clone());
        // The counted event cannot be its own cause.
        let is_counted = |cause: &DetailEvent| counted.as_ref() == Some(&cause.kind.event);
        request.cause_events.retain(|cause| !is_counted(cause));
        Ok(request)
    }

    /// Fails unless all names in --columns are columns.
    fn check_columns(&self) -> anyhow::Result<()> {
        let names = exit_column_names(&self.percentiles);
        for name in &self.columns {
            if !names.iter().any(|it| it.eq_ignore_ascii_case(name)) {
                let similar = similar_names(names.iter().map(|it| &**it), name);
                bail_usage!(
                    "there is no column `{name}`{} (--columns accepts {})",
                    did_you_mean(&similar),
                    names.join(", ")
                );
            }
        }
        if !self.columns.is_empty() && self.output.format() != OutputFormat::Text {
            bail_usage!("--columns selects columns of text: JSON and CSV always have all of them");
        }
        Ok(())
    }

    /// Returns what was requested, to say why there is none.
    pub(super) fn no_match_request(&self, timing: &TimingRequest) -> no_match::Request<'_> {
        let kind = timing.counted_event.as_ref().map(|it| it.kind.clone());
        no_match::Request {
            requested: kind.map_or(no_match::Requested::Exits, no_match::Requested::Kind),
            target: &self.target,
            reasons: Some(&self.reasons),
            events: None,
        }
    }

    /// Returns the values of the options that select.
    pub(super) fn selected_by(&self) -> SelectedBy {
        self.input.range.add_to(SelectedBy {
            reason: self.reasons.patterns(),
            ..self.target.selected_by()
        })
    }

    pub(super) fn writer(
        &self,
        reasons: Option<Vec<u32>>,
        request: &TimingRequest,
        mut origin: ReportOrigin,
        global: GlobalOptions,
        out: ReportOutput,
    ) -> anyhow::Result<Writer<ReportOutput>> {
        self.check_columns()?;
        let kind = request
            .counted_event
            .as_ref()
            .map_or(VMEXIT, |it| &it.kind.name);
        let preempt_watched = request.switch.is_some();
        origin.unmeasured = request.unmeasured_parts();
        let selection = origin.selection.within(&origin.recording_selection);
        let conditions = (&selection, preempt_watched);
        let baseline = self
            .baseline
            .read(kind, &self.group_by(), conditions, self.sort_key())?;
        let style = self.output.text_style(global, false);
        Ok(Writer {
            group_by: self.group_by(),
            is_by_host: self.is_by_host(),
            reasons,
            options: self.view_options(preempt_watched),
            baseline: baseline.map(|it| (it, self.sort_key(), self.top)),
            format: self.output.format(),
            style,
            header_written: false,
            has_intervals: self.interval.is_some(),
            origin,
            heading: TextHeading::new(what_is_counted(&self.kind), self.interval.is_some(), style),
            columns: self.columns.clone(),
            slow_limit: self.slow,
            in_slow_section: false,
            has_slow_exits: false,
            out,
            rows: 0,
            unselected: Vec::new(),
            total: LossReport::new(None, Loss::default()),
        })
    }
}
