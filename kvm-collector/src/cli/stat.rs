//! `kvm-collector stat`.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{
    global::GlobalOptions,
    inputs::Inputs,
    no_match::{self, RecordingSelection},
    origin,
    output::{OutputArgs, OutputFormat},
    recording::{self, InputArgs, SelectedRecording},
    sandbox::{self, RecordingFiles},
    selection::{EventArgs, TargetArgs},
    several::{self, SeveralRecordings},
    stop::{OverheadArgs, StopArgs, check_live_interval, parse_interval},
    text_heading::TextHeading,
    tracefs::{find_kvm_format, open_tracefs_with_kvm},
    usage::bail_usage,
};
use crate::{
    format::{csv, json, text, text::TextStyle},
    model::Loss,
    session::{self, ProgressLine, ReportPeriod},
    source::{Live, LiveOptions, PlaybackOptions},
    timing::Selection,
    tracefs::Tracefs,
    view::{LossReport, MergedCounts, ReportOrigin, SelectedBy, StatReport},
};

/// Count KVM events by name, and by VM with --per-vm
///
/// Counts every kvm event in the kernel, on all CPUs. A small eBPF program increments a per-CPU
/// counter for each event. Counts are exact: events are not sampled, and counters do not overflow.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector stat                          count all kvm events until Ctrl-C
  kvm-collector stat -d 10s --per-vm          ten seconds, also per VM
  kvm-collector stat -I 1s -e 'kvm_exit,kvm_entry,kvmmmu:*'
  kvm-collector stat -i kvm.data --per-vm     from a recording
  kvm-collector stat -i recordings/           the sum of all recordings in a directory
  kvm-collector stat --json -- kvm-collector guest --kind io --exits 1000")]
pub(super) struct StatArgs {
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    pub(super) input: InputArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    stop: StopArgs,
    #[command(flatten)]
    overhead: OverheadArgs,
    #[command(flatten)]
    output: OutputArgs,

    /// Print a report after each interval (100ms, 1s) and the total at the end
    ///
    /// The last interval may be shorter. CSV has no total, because the intervals add up to it.
    #[arg(short = 'I', long, value_name = "TIME", value_parser = parse_interval, help_heading = "Duration")]
    interval: Option<Duration>,

    /// Also count per VM
    #[arg(long, help_heading = "Output")]
    per_vm: bool,

    /// Also show events that did not occur
    #[arg(long, help_heading = "Output")]
    zeros: bool,
}

pub(super) async fn run(args: StatArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    if args.zeros && args.output.format() == OutputFormat::Json {
        bail_usage!("--zeros cannot be used with JSON output, which always has all events");
    }
    match args.input.find()? {
        Inputs::None => {}
        Inputs::One(path) => return run_recorded(&args, &path, global),
        Inputs::Several(paths) => return run_several(&args, &paths, global),
    }
    check_live_interval(args.interval)?;
    let tracefs = open_tracefs_with_kvm(args.target.no_wait)?;
    let mut out = args.output.open(&[], args.interval.is_some())?;
    let overhead = args.overhead.start()?;
    let selection = args.target.for_running_kernel()?;
    let mut live = Live::start(LiveOptions {
        logs_programs: global.ebpf_log,
        ..args.live_options(&tracefs, selection)?
    })?;
    let conditions = args.stop.conditions();
    let formats = live.options().entry.iter();
    let origin = origin::of_host(args.selected_by(), conditions.command_line(), formats);
    let mut writer = args.writer(origin, global);
    let mut schedule = conditions.start(args.interval)?;
    sandbox::enter_to_measure(
        &mut live,
        args.output.files(),
        conditions.has_command(),
        global,
    );
    let mut progress = ProgressLine::new(global.quiet || args.interval.is_some());
    session::stat::live(
        &mut live,
        &mut schedule,
        &mut progress,
        |period, start_ns, report| writer.write(period, start_ns, report, &mut out),
    )
    .await?;
    let exit_code = args.output.finish(out, &writer.total, &writer.origin)?;
    if writer.is_empty {
        log::warn!("{}", no_match::explain_live(&args.no_match_request(), &[]));
    }
    if let Some(overhead) = overhead {
        overhead.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed { ExitCode::FAILURE } else { exit_code })
}

/// Runs the command on a recording. The measured time is from its first to its last event.
fn run_recorded(args: &StatArgs, path: &Path, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let selected = SelectedRecording::open(path, &args.events, &[], &args.target, None)?;
    let (limits, range) = (args.stop.limits(args.interval), &args.input.range);
    let metadata = selected.recording.metadata();
    let wall_offset_ns = metadata.wall_offset_ns();
    let options = PlaybackOptions {
        limits: range.apply(limits, metadata, path)?,
        without_raw: true,
        ..selected.options
    };
    let mut out = args.output.open(&[path.to_owned()], false)?;
    let origin = origin::of_recording(path, &selected.recording, args.selected_by());
    let mut writer = args.writer(origin, global);
    session::stat::recorded(
        selected.recording,
        &selected.formats,
        &options,
        args.per_vm,
        !global.quiet && args.interval.is_none(),
        |period, start_ns, report| writer.write(period, start_ns, report, &mut out),
        |summary| {
            range.check(summary, wall_offset_ns, path)?;
            recording::report_end(summary, &args.target, path)
        },
    )?;
    if writer.is_empty {
        let request = args.no_match_request();
        let selection = RecordingSelection {
            path,
            codes: None,
            formats: &selected.formats,
            is_part: options.limits.is_part(),
        };
        log::warn!("{}", no_match::explain_recorded(&request, selection, &[]));
    }
    args.output.finish(out, &writer.total, &writer.origin)
}

/// Runs the command on several recordings, and reports the sum.
fn run_several(
    args: &StatArgs,
    paths: &[PathBuf],
    global: GlobalOptions,
) -> anyhow::Result<ExitCode> {
    let range = &args.input.range;
    several::check_options(args.interval, range)?;
    let mut out = args.output.open(paths, false)?;
    let mut recordings = SeveralRecordings::open(paths)?;
    let has_hosts = recordings.has_several_hosts();
    let mut sum = MergedCounts::default();
    // The formats of the selected events of each recording, and whether a part of its time is selected.
    let mut selected_formats = Vec::new();
    for index in 0..recordings.files() {
        let file = recordings.file(index);
        let (path, host) = (file.path.clone(), file.host());
        let selected = SelectedRecording::open(&path, &args.events, &[], &args.target, None)?;
        let metadata = selected.recording.metadata();
        let options = PlaybackOptions {
            limits: range.apply(args.stop.limits(None), metadata, &path)?,
            without_raw: true,
            ..selected.options
        };
        let is_left_out = Cell::new(false);
        let result = session::stat::recorded(
            selected.recording,
            &selected.formats,
            &options,
            args.per_vm,
            !global.quiet,
            |_, _, report| match is_left_out.get() {
                true => Ok(()),
                false => Ok(sum.add(&host, report)?),
            },
            |summary| {
                is_left_out.set(!recordings.add_summary(index, summary, range));
                Ok(())
            },
        );
        if let Err(error) = result {
            recordings.leave_out(error)?;
        }
        selected_formats.push((path, selected.formats, options.limits.is_part()));
    }
    let read = recordings.finish(&args.target, range, args.selected_by())?;
    let report = sum.report(&read.times_of_hosts, has_hosts);
    let mut writer = args.writer(read.origin.clone(), global);
    writer.write_at(ReportPeriod::Total, read.times_ns, &report, &mut out)?;
    if writer.is_empty {
        let selections = selected_formats.iter();
        let selections = selections.map(|(path, formats, is_part)| RecordingSelection {
            path,
            codes: None,
            formats,
            is_part: *is_part,
        });
        let selections: Vec<_> = selections.collect();
        let request = args.no_match_request();
        log::warn!("{}", no_match::explain_several(&request, &selections, &[]));
    }
    let code = args.output.finish(out, &writer.total, &writer.origin)?;
    Ok(read.exit_code(code))
}

impl StatArgs {
    /// Returns the recordings and the outputs.
    pub(super) fn files(&self) -> RecordingFiles {
        RecordingFiles {
            inputs: self.input.input.clone(),
            outputs: self.output.files(),
        }
    }

    /// Returns what is requested from the running kernel.
    pub(super) fn live_options(
        &self,
        tracefs: &Tracefs,
        selection: Selection,
    ) -> anyhow::Result<LiveOptions> {
        Ok(LiveOptions {
            events: self.events.formats(tracefs)?,
            selection,
            entry: find_kvm_format(tracefs, "kvm_entry")?,
            per_vm: self.per_vm,
            ..LiveOptions::default()
        })
    }

    /// Returns what was requested, to say why there is none.
    fn no_match_request(&self) -> no_match::Request<'_> {
        no_match::Request {
            requested: no_match::Requested::Events,
            target: &self.target,
            reasons: None,
            events: Some(&self.events),
        }
    }

    /// Returns the values of the options that select.
    fn selected_by(&self) -> SelectedBy {
        self.input.range.add_to(SelectedBy {
            event: self.events.given(),
            ..self.target.selected_by()
        })
    }

    fn writer(&self, mut origin: ReportOrigin, global: GlobalOptions) -> Writer {
        // Otherwise the report has no vCPU numbers.
        origin.vcpus_from_thread_names &= !origin.selection.vcpu.is_empty();
        let style = self.output.text_style(global, self.zeros);
        let what = if self.events.given().is_empty() {
            "KVM events"
        } else {
            "events"
        };
        Writer {
            origin,
            format: self.output.format(),
            style,
            header_written: false,
            has_intervals: self.interval.is_some(),
            heading: TextHeading::new(what.to_owned(), self.interval.is_some(), style),
            is_empty: true,
            total: LossReport::new(None, Loss::default()),
        }
    }
}

struct Writer {
    origin: ReportOrigin,
    format: OutputFormat,
    style: TextStyle,
    header_written: bool,
    has_intervals: bool,
    heading: TextHeading,
    /// Whether the total has no events.
    is_empty: bool,
    /// Losses of the total.
    total: LossReport,
}

impl Writer {
    fn write(
        &mut self,
        period: ReportPeriod,
        start_ns: Option<u64>,
        report: &StatReport,
        out: &mut impl std::io::Write,
    ) -> anyhow::Result<()> {
        let times_ns = start_ns.map(|start_ns| {
            let report_start_ns = start_ns + report.start_ns;
            (report_start_ns, report_start_ns + report.elapsed_ns)
        });
        self.write_at(period, times_ns, report, out)
    }

    /// Writes a report with this start and end, which are those of the clock of the events; `None` for a recording without
    /// events.
    fn write_at(
        &mut self,
        period: ReportPeriod,
        times_ns: Option<(u64, u64)>,
        report: &StatReport,
        out: &mut impl std::io::Write,
    ) -> anyhow::Result<()> {
        if period == ReportPeriod::Total {
            self.is_empty = report.is_empty();
            self.total = LossReport::new(times_ns, report.loss);
        }
        match self.format {
            OutputFormat::Json => {
                json::write_report(report, &self.origin, period.name(), times_ns, out)?
            }
            // The total would be another kind of row: the intervals add up to it.
            OutputFormat::Csv if self.has_intervals && period == ReportPeriod::Total => {}
            OutputFormat::Csv => {
                let first = !std::mem::replace(&mut self.header_written, true);
                let flags = (first, self.style.show_zeros);
                let start_ns = times_ns.map(|it| it.0);
                csv::write_stat(report, &self.origin, start_ns, flags, out)?
            }
            OutputFormat::Text => {
                self.heading
                    .begin_report(&self.origin, period, times_ns, out)?;
                text::write_stat(report, self.style, out)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}
