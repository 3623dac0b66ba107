//! `kvm-collector exits`.

use std::{io::Write as _, process::ExitCode};

use clap::{Args, ValueEnum};

use super::{
    Common,
    ending::{Ending, Happened},
    output::{Format, Output},
    selection::{Reasons, Target, kvm_format},
};
use crate::{
    format::{csv, json, text},
    probe::MapSizes,
    source::{Live, LiveOptions},
    tracefs::{ReasonNames, Tracefs},
    view::{ExitsOptions, ExitsReport, Group, SortKey},
};

/// Show where VM exits go: count and time per reason, VM and vCPU
///
/// A VM exit's time is from kvm_exit to the next kvm_entry of the same thread: in-kernel handling, the
/// VMM's work in user space, waiting in HLT, and being scheduled out. Counts, totals, minima and
/// maxima are exact; percentiles are estimated from a log2 histogram kept in the kernel.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector exits -d 10s                      by reason, for ten seconds
  kvm-collector exits --by vm,vcpu,reason --sort mean --top 20
  kvm-collector exits --vm 'web-*' --reason 'npf,EPT_*' --hist")]
pub(super) struct ExitsArgs {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    reasons: Reasons,

    #[command(flatten)]
    ending: Ending,
    #[command(flatten)]
    output: Output,

    /// What rows are told apart by
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        default_value = "reason",
        help_heading = "Output"
    )]
    by: Vec<By>,

    /// What comes first
    #[arg(
        long,
        value_name = "KEY",
        default_value = "time",
        help_heading = "Output"
    )]
    sort: Sort,

    /// Only so many rows
    #[arg(long, value_name = "N", help_heading = "Output")]
    top: Option<usize>,

    /// Also show each row's histogram
    #[arg(long, help_heading = "Output")]
    hist: bool,

    /// Room for so many rows of (thread, vCPU, reason) in the kernel, about 0.5 KB each
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().exit_rows, help_heading = "Output",
          value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    max_rows: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// The VM
    Vm,
    /// The vCPU
    Vcpu,
    /// Why the guest was left
    Reason,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// Exits
    Count,
    /// Total time
    Time,
    /// Shortest time
    Min,
    /// Mean time
    Mean,
    /// Longest time
    Max,
    /// Median time
    P50,
    /// 99th percentile
    P99,
    /// VM, vCPU and reason
    Name,
}

impl ExitsArgs {
    fn view(&self, reasons: Option<Vec<u32>>) -> ExitsOptions {
        ExitsOptions {
            by: self
                .by
                .iter()
                .map(|by| match by {
                    By::Vm => Group::Vm,
                    By::Vcpu => Group::Vcpu,
                    By::Reason => Group::Reason,
                })
                .collect(),
            sort: match self.sort {
                Sort::Count => SortKey::Count,
                Sort::Time => SortKey::Time,
                Sort::Min => SortKey::Min,
                Sort::Mean => SortKey::Mean,
                Sort::Max => SortKey::Max,
                Sort::P50 => SortKey::P50,
                Sort::P99 => SortKey::P99,
                Sort::Name => SortKey::Name,
            },
            top: self.top,
            reasons,
            histograms: self.hist,
        }
    }
}

pub(super) async fn run(args: ExitsArgs, common: Common) -> anyhow::Result<ExitCode> {
    let tracefs = Tracefs::find_or_mount()?;
    let exit = kvm_format(&tracefs, "kvm_exit")?;
    let reasons = args.reasons.codes(exit.as_ref())?;
    let mut out = args.output.open()?;
    let mut live = Live::begin(LiveOptions {
        entry: kvm_format(&tracefs, "kvm_entry")?,
        exit,
        filter: args.target.filter()?,
        pair: true,
        sizes: MapSizes {
            exit_rows: args.max_rows,
            ..MapSizes::default()
        },
        log: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut course = args.ending.begin(None)?;
    while course.next().await? != Happened::End {
        live.look_around()?;
    }
    live.end()?;
    let sample = live.exits()?;
    let names = ReasonNames::of(live.options().exit.as_ref());
    let vm_name = |tgid| live.names().get(tgid).to_owned();
    let report = ExitsReport::of(&sample, &args.view(reasons), &names, &vm_name);
    match args.output.format() {
        Format::Json => json::line(&report, &mut out)?,
        Format::Csv => csv::exits(&report, &mut out)?,
        Format::Text => {
            writeln!(out)?;
            text::exits(&report, args.output.look(common, false), &mut out)?;
        }
    }
    out.flush()?;
    let failed = course.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&report.loss)
    })
}
