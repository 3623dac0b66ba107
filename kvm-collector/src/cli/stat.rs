//! `kvm-collector stat`.

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{
    Common,
    ending::{Ending, Happened, duration},
    output::{Format, Output},
    selection::{Events, Target, kvm_format},
};
use crate::{
    format::{csv, json, text, text::Look},
    host::watch::ModuleWatch,
    source::{Live, LiveOptions},
    tracefs::Tracefs,
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
  kvm-collector stat --json -- kvm-collector guest --kind io --exits 1000")]
pub(super) struct StatArgs {
    #[command(flatten)]
    events: Events,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ending: Ending,
    #[command(flatten)]
    output: Output,

    /// Print the counts of each interval (100ms, 1s), and the total at the end
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
    let tracefs = Tracefs::find_or_mount()?;
    let mut out = args.output.open()?;
    let look = args.output.look(common, args.zeros);
    let mut live = Live::begin(LiveOptions {
        events: args.events.formats(&tracefs)?,
        filter: args.target.filter()?,
        entry: kvm_format(&tracefs, "kvm_entry")?,
        per_vm: args.per_vm,
        log: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let began_ns = live.began_ns();
    let first = live.nothing();
    let mut last = first.clone();
    let mut writer = Writer {
        format: args.output.format(),
        look,
        began: false,
        command: args.ending.command_line(),
    };
    let mut modules = ModuleWatch::begin();
    let mut course = args.ending.begin(args.interval)?;
    loop {
        match course.next().await? {
            Happened::LookAround => {
                live.look_around()?;
                modules.look();
            }
            Happened::Interval => {
                let now = live.counts()?;
                writer.write(&StatReport::between(began_ns, &last, &now), &mut out)?;
                last = now;
            }
            Happened::End => break,
        }
    }
    live.end()?;
    let total = StatReport::between(began_ns, &first, &live.counts()?);
    if args.interval.is_some() {
        writer.total(&mut out)?;
    }
    writer.write(&total, &mut out)?;
    let failed = course.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&total.loss)
    })
}

struct Writer {
    format: Format,
    look: Look,
    began: bool,
    command: Option<String>,
}

impl Writer {
    fn write(&mut self, report: &StatReport, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        let first = !self.began;
        self.began = true;
        match self.format {
            Format::Json => json::line(report, out)?,
            Format::Csv => csv::stat(report, first, out)?,
            Format::Text => {
                if first {
                    let what = self.command.as_deref().unwrap_or("all VMs");
                    writeln!(out, "\n  KVM events while watching {what}\n")?;
                }
                text::stat(report, self.look, out)?;
                writeln!(out)?;
            }
        }
        out.flush()?;
        Ok(())
    }

    fn total(&self, out: &mut impl std::io::Write) -> anyhow::Result<()> {
        if self.format == Format::Text {
            writeln!(out, "  total\n")?;
        }
        Ok(())
    }
}
