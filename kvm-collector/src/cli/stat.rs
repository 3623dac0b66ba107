//! `kvm-collector stat`.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Args;

use super::{
    common::Common,
    ending::{EndingArgs, OwnArgs, duration},
    output::{Format, Output},
    playback::{self, Input, Playback},
    selection::{Events, Target, kvm_format, open_tracefs},
};
use crate::{
    format::{csv, json, text, text::Look},
    session::{self, Span},
    source::{Live, LiveOptions, PlaybackOptions},
    view::StatReport,
};

/// Count events, per event and per VM
///
/// Counts every kvm event in the kernel, on all CPUs, at the cost of an increment each. The counts
/// are exact: nothing is sampled and nothing can overflow.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector stat                          count all kvm events until Ctrl-C
  kvm-collector stat -d 10s --per-vm          ten seconds, also per VM
  kvm-collector stat -I 1s -e 'kvm_exit,kvm_entry,kvmmmu:*'
  kvm-collector stat -i kvm.data --per-vm     from a recording
  kvm-collector stat --json -- kvm-collector guest --kind io --exits 1000")]
pub(super) struct StatArgs {
    #[command(flatten)]
    events: Events,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ending: EndingArgs,
    #[command(flatten)]
    own: OwnArgs,
    #[command(flatten)]
    output: Output,

    /// Report each interval (100ms, 1s), also the last, shorter one, and the total at the end
    #[arg(short = 'I', long, value_name = "TIME", value_parser = duration, help_heading = "Duration")]
    interval: Option<Duration>,

    /// Also count per VM
    #[arg(long, help_heading = "Output")]
    per_vm: bool,

    /// Also show events that did not happen
    #[arg(long, help_heading = "Output")]
    zeros: bool,
}

pub(super) async fn run(args: StatArgs, common: Common) -> anyhow::Result<ExitCode> {
    if let Some(path) = args.input.input.clone() {
        return of_recording(&args, &path, common);
    }
    let tracefs = open_tracefs()?;
    let mut out = args.output.open()?;
    let own = args.own.begin()?;
    let mut live = Live::start(LiveOptions {
        events: args.events.formats(&tracefs)?,
        selection: args.target.of_running()?,
        entry: kvm_format(&tracefs, "kvm_entry")?,
        per_vm: args.per_vm,
        logs_programs: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let ending = args.ending.ending();
    let heading = match ending.command_line() {
        Some(command) => format!("KVM events{} while `{command}` runs", args.target.heading()),
        None => format!("KVM events{}", args.target.heading()),
    };
    let mut writer = args.writer(common, heading);
    let mut schedule = ending.begin(args.interval)?;
    let total = session::stat::live(&mut live, &mut schedule, |span, report| {
        writer.write(span, report, &mut out)
    })
    .await?;
    if let Some(own) = own {
        own.print(&live)?;
    }
    let failed = schedule.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&total.loss)
    })
}

/// The same from a recording: its time goes from its first event to its last.
fn of_recording(args: &StatArgs, path: &Path, common: Common) -> anyhow::Result<ExitCode> {
    let playback = Playback::open(path, &args.events, &[], &args.target, None)?;
    let options = PlaybackOptions {
        limits: args.ending.limits(args.interval),
        without_raw: true,
        ..playback.options
    };
    let mut out = args.output.open()?;
    let heading = format!("Events{} in {}", args.target.heading(), path.display());
    let mut writer = args.writer(common, heading);
    let (total, summary) = session::stat::recorded(
        playback.recording,
        &playback.formats,
        &options,
        args.per_vm,
        !common.quiet && args.interval.is_none(),
        |span, report| writer.write(span, report, &mut out),
    )?;
    playback::report_end(&summary, &args.target, path)?;
    Ok(args.output.exit_code(&total.loss))
}

impl StatArgs {
    fn writer(&self, common: Common, heading: String) -> Writer {
        Writer {
            format: self.output.format(),
            look: self.output.look(common, self.zeros),
            began: false,
            has_intervals: self.interval.is_some(),
            heading,
        }
    }
}

struct Writer {
    format: Format,
    look: Look,
    began: bool,
    has_intervals: bool,
    heading: String,
}

impl Writer {
    fn write(
        &mut self,
        span: Span,
        report: &StatReport,
        out: &mut impl std::io::Write,
    ) -> anyhow::Result<()> {
        let first = !self.began;
        self.began = true;
        match self.format {
            Format::Json => json::line(report, out)?,
            Format::Csv => csv::stat(report, first, out)?,
            Format::Text => {
                if first {
                    writeln!(out, "\n  {}\n", self.heading)?;
                }
                if span == Span::Total && self.has_intervals {
                    writeln!(out, "  total\n")?;
                }
                text::stat(report, self.look, out)?;
                writeln!(out)?;
            }
        }
        out.flush()?;
        Ok(())
    }
}
