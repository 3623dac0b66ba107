//! `kvm-collector stat`.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Args;

use super::{
    global::GlobalOptions,
    no_match::{self, RecordingSelection},
    origin,
    output::{OutputArgs, OutputFormat},
    recording::{self, InputArgs, SelectedRecording},
    selection::{EventArgs, TargetArgs},
    stop::{OverheadArgs, StopArgs, parse_duration},
    tracefs::{find_kvm_format, open_tracefs},
    usage::bail_usage,
};
use crate::{
    format::{csv, json, text, text::TextStyle},
    session::{self, ReportPeriod},
    source::{Live, LiveOptions, PlaybackOptions},
    view::{ReportOrigin, SelectedBy, StatReport},
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
  kvm-collector stat --json -- kvm-collector guest --kind io --exits 1000")]
pub(super) struct StatArgs {
    #[command(flatten)]
    events: EventArgs,
    #[command(flatten)]
    input: InputArgs,
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
    /// The last interval may be shorter.
    #[arg(short = 'I', long, value_name = "TIME", value_parser = parse_duration, help_heading = "Duration")]
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
    if let Some(path) = args.input.input.clone() {
        return run_recorded(&args, &path, global);
    }
    let tracefs = open_tracefs()?;
    let mut out = args.output.open()?;
    let overhead = args.overhead.start()?;
    let mut live = Live::start(LiveOptions {
        events: args.events.formats(&tracefs)?,
        selection: args.target.for_running_kernel()?,
        entry: find_kvm_format(&tracefs, "kvm_entry")?,
        per_vm: args.per_vm,
        logs_programs: global.ebpf_log,
        ..LiveOptions::default()
    })?;
    let conditions = args.stop.conditions();
    let heading = match conditions.command_line() {
        Some(command) => format!("KVM events{} while `{command}` runs", args.target.heading()),
        None => format!("KVM events{}", args.target.heading()),
    };
    let origin = origin::of_host(args.selected_by());
    let mut writer = args.writer(origin, global, heading);
    let mut schedule = conditions.start(args.interval)?;
    let total = session::stat::live(&mut live, &mut schedule, |period, start_ns, report| {
        writer.write(period, start_ns, report, &mut out)
    })
    .await?;
    if total.is_empty() {
        log::warn!("{}", no_match::explain_live(&args.no_match_request(), &[]));
    }
    if let Some(overhead) = overhead {
        overhead.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&total.loss)
    })
}

/// Runs the command on a recording. The measured time is from its first to its last event.
fn run_recorded(args: &StatArgs, path: &Path, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let selected = SelectedRecording::open(path, &args.events, &[], &args.target, None)?;
    let options = PlaybackOptions {
        limits: args.stop.limits(args.interval),
        without_raw: true,
        ..selected.options
    };
    let mut out = args.output.open()?;
    let heading = format!("Events{} in {}", args.target.heading(), path.display());
    let origin = origin::of_recording(path, selected.recording.metadata(), args.selected_by());
    let mut writer = args.writer(origin, global, heading);
    let total = session::stat::recorded(
        selected.recording,
        &selected.formats,
        &options,
        args.per_vm,
        !global.quiet && args.interval.is_none(),
        |period, start_ns, report| writer.write(period, start_ns, report, &mut out),
        |summary| recording::report_end(summary, &args.target, path),
    )?;
    if total.is_empty() {
        let request = args.no_match_request();
        let selection = RecordingSelection {
            path,
            codes: None,
            formats: &selected.formats,
        };
        log::warn!("{}", no_match::explain_recorded(&request, selection, &[]));
    }
    Ok(args.output.exit_code(&total.loss))
}

impl StatArgs {
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
        SelectedBy {
            event: self.events.given().to_vec(),
            ..self.target.selected_by()
        }
    }

    fn writer(&self, origin: ReportOrigin, global: GlobalOptions, heading: String) -> Writer {
        Writer {
            origin,
            format: self.output.format(),
            style: self.output.text_style(global, self.zeros),
            header_written: false,
            has_intervals: self.interval.is_some(),
            heading,
        }
    }
}

struct Writer {
    origin: ReportOrigin,
    format: OutputFormat,
    style: TextStyle,
    header_written: bool,
    has_intervals: bool,
    heading: String,
}

impl Writer {
    fn write(
        &mut self,
        period: ReportPeriod,
        start_ns: u64,
        report: &StatReport,
        out: &mut impl std::io::Write,
    ) -> anyhow::Result<()> {
        let first = !self.header_written;
        self.header_written = true;
        match self.format {
            OutputFormat::Json => {
                let report_start_ns = start_ns + report.start_ns;
                let times_ns = (report_start_ns, report_start_ns + report.elapsed_ns);
                json::write_report(report, &self.origin, period.name(), times_ns, out)?
            }
            OutputFormat::Csv => csv::write_stat(report, first, out)?,
            OutputFormat::Text => {
                if first {
                    writeln!(out, "\n  {}\n", self.heading)?;
                }
                if period == ReportPeriod::Total && self.has_intervals {
                    writeln!(out, "  total\n")?;
                }
                text::write_stat(report, self.style, out)?;
                writeln!(out)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}
