//! `kvm-collector exits`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use clap::{Args, ValueEnum};
use kvm_ebpf_common::SlowExit;

use super::{
    Common,
    baseline::BaselineArgs,
    ending::{Ending, Happened, duration},
    output::{Format, Output},
    selection::{Reasons, Target, kvm_format},
};
use crate::{
    format::{csv, json, text, text::Look},
    host,
    model::{ExitReading, Kind, VMEXIT},
    probe::{Detail, MapSizes, Pairing, Ring},
    source::{Live, LiveOptions},
    tracefs::{EventName, ReasonNames, Tracefs},
    view::{
        Baseline, DiffReport, ExitGroups, ExitsOptions, ExitsReport, Group, KeyNames, SlowRow,
        SortKey,
    },
};

/// Show where VM exits go: count and time per reason, VM and vCPU
///
/// A VM exit's time is from kvm_exit to the next kvm_entry of the same thread. It divides into time in the
/// VMM's user space, time halted, with --preempt time in which the thread was ready and did not run, and
/// the rest: in the kernel. Counts, times, minima and maxima are exact; percentiles come from a histogram
/// kept in the kernel and are right to within 5 %.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector exits -d 10s                      by reason, for ten seconds
  kvm-collector exits --by vm,vcpu,reason --sort mean --top 20
  kvm-collector exits -I 1s --vm 'web-*' --reason 'npf,EPT_*' --hist
  kvm-collector exits --kind mmio                 which addresses; also pio, msr, userspace, ...
  kvm-collector exits --causes 3                  under each reason, what it was mostly about
  kvm-collector exits --advice -d 10s             what to do about the ones that cost most
  kvm-collector exits -d 10s --json -o before.json
  kvm-collector exits -d 10s --baseline before.json
                                                  what changed since
  kvm-collector exits --slow 1ms                  also print each exit that takes longer")]
pub(super) struct ExitsArgs {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    reasons: Reasons,

    #[command(flatten)]
    ending: Ending,

    /// Print what was added in each interval (100ms, 1s), and the total at the end
    #[arg(short = 'I', long, value_name = "TIME", value_parser = duration, help_heading = "Duration")]
    interval: Option<Duration>,

    #[command(flatten)]
    output: Output,

    /// What is counted: vmexit (by reason), userspace, mmio, pio, msr, hypercall, cpuid, page-fault, or any
    /// kvm event's field (kvm_eoi.vector)
    #[arg(
        long,
        value_name = "KIND",
        default_value = VMEXIT,
        help_heading = "Selection"
    )]
    kind: String,

    /// What rows are told apart by
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        default_value = "reason",
        help_heading = "Output"
    )]
    by: Vec<By>,

    /// What comes first [default: time; with --baseline, what changed the most in busy time]
    #[arg(long, value_name = "KEY", help_heading = "Output")]
    sort: Option<Sort>,

    /// Only so many rows
    #[arg(long, value_name = "N", help_heading = "Output")]
    top: Option<usize>,

    /// These percentiles instead of the 50th and the 99th
    #[arg(
        long,
        value_name = "P,P",
        value_delimiter = ',',
        value_parser = percentile,
        help_heading = "Output"
    )]
    percentiles: Vec<f64>,

    /// Also show each row's histogram
    #[arg(long, help_heading = "Output")]
    hist: bool,

    /// Under each row, its N most frequent causes
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = false,
        default_missing_value = "5",
        help_heading = "Output"
    )]
    causes: Option<usize>,

    /// What counts as a cause: rip (where the guest was), and kinds as for --kind. By default whichever of
    /// mmio, pio, msr, hypercall, cpuid and page-fault happens
    #[arg(
        long,
        value_name = "KIND",
        value_delimiter = ',',
        help_heading = "Output"
    )]
    cause: Vec<String>,

    /// Say what is usually done about what is worth it: 5 % of its VM's or vCPU's exits or of their time
    /// without idle, and at least 1 ms of that each second. Watches causes, too. docs/advice.md says why
    #[arg(long, help_heading = "Output")]
    advice: bool,

    #[command(flatten)]
    baseline: BaselineArgs,

    /// Also print each exit that takes longer than this (halted time does not count), as it ends
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Output")]
    slow: Option<Duration>,

    /// Tell apart the time in which a vCPU's thread was ready and did not run (watches sched_switch: every
    /// context switch of the host pays for it)
    #[arg(long, help_heading = "Selection")]
    preempt: bool,

    /// Room for so many rows of (thread, reason) in the kernel, at 2.5 KB each; by default 25 for each vCPU
    /// there is, and 4096 at least
    #[arg(long, value_name = "N", help_heading = "Output",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_rows: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    /// The VM
    Vm,
    /// The vCPU
    Vcpu,
    /// Why the guest was left, or what else is counted
    Reason,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sort {
    /// Exits
    Count,
    /// Total time
    Time,
    /// Time without what was idle
    Busy,
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

fn percentile(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a percentile is a number from 0 to 100".into()),
    }
}

impl ExitsArgs {
    fn by(&self) -> Vec<Group> {
        let group = |by: &By| match by {
            By::Vm => Group::Vm,
            By::Vcpu => Group::Vcpu,
            By::Reason => Group::Reason,
        };
        self.by.iter().map(group).collect()
    }

    fn sort(&self) -> Option<SortKey> {
        self.sort.map(|sort| match sort {
            Sort::Count => SortKey::Count,
            Sort::Time => SortKey::Time,
            Sort::Busy => SortKey::Busy,
            Sort::Min => SortKey::Min,
            Sort::Mean => SortKey::Mean,
            Sort::Max => SortKey::Max,
            Sort::P50 => SortKey::P50,
            Sort::P99 => SortKey::P99,
            Sort::Name => SortKey::Name,
        })
    }

    fn view(&self, reasons: Option<Vec<u32>>) -> ExitsOptions {
        ExitsOptions {
            sort: self.sort().unwrap_or(SortKey::Time),
            // What is compared must be all; of that, the top rows are shown.
            top: self.top.filter(|_| !self.baseline.is_given()),
            reasons,
            percentiles: self.percentiles.clone(),
            histograms: self.hist,
            causes: self.causes.unwrap_or(0),
            advice: self.advice,
            preempt_watched: self.preempt,
        }
    }

    fn pairing(&self, tracefs: &Tracefs) -> anyhow::Result<Pairing> {
        let counted = match self.kind.as_str() {
            VMEXIT => None,
            name => Some(detail(tracefs, Kind::named(name)?)?),
        };
        let mut causes = Vec::new();
        let mut rip_is_cause = false;
        if self.causes.is_some() || self.slow.is_some() || self.advice {
            for name in &self.cause {
                match name.as_str() {
                    "rip" => rip_is_cause = true,
                    name => causes.push(detail(tracefs, Kind::named(name)?)?),
                }
            }
            if self.cause.is_empty() {
                let all = tracefs.events()?;
                for kind in Kind::causes() {
                    // Not every kernel has each of them.
                    if all
                        .iter()
                        .any(|it| it.system == "kvm" && it.name == kind.event)
                    {
                        causes.push(detail(tracefs, kind)?);
                    }
                }
            }
            let of_counted = |cause: &Detail| {
                let counted = counted.as_ref();
                counted.is_some_and(|it: &Detail| it.kind.event == cause.kind.event)
            };
            causes.retain(|cause| !of_counted(cause));
        }
        Ok(Pairing {
            exit: kvm_format(tracefs, "kvm_exit")?,
            user: kvm_format(tracefs, "kvm_userspace_exit")?,
            wakeup: kvm_format(tracefs, "kvm_vcpu_wakeup")?,
            switch: match self.preempt {
                true => Some(tracefs.format(&EventName {
                    system: "sched".into(),
                    name: "sched_switch".into(),
                })?),
                false => None,
            },
            counted,
            causes,
            rip_is_cause,
            slow: self.slow,
        })
    }

    fn sizes(&self) -> MapSizes {
        let vms = host::vm::list(Path::new("/proc")).unwrap_or_default().vms;
        let sizes = MapSizes::for_vcpus(vms.iter().map(|vm| vm.vcpus.len()).sum());
        MapSizes {
            exit_rows: self.max_rows.unwrap_or(sizes.exit_rows),
            ..sizes
        }
    }
}

/// A kind of event, with the format that says where its fields lie.
pub(super) fn detail(tracefs: &Tracefs, kind: Kind) -> anyhow::Result<Detail> {
    let format = kvm_format(tracefs, &kind.event)?.ok_or_else(|| {
        anyhow::anyhow!(
            "`{}` is counted by kvm:{}, which this kernel does not have: `kvm-collector list` shows what there is",
            kind.name,
            kind.event
        )
    })?;
    Ok(Detail { kind, format })
}

pub(super) async fn run(args: ExitsArgs, common: Common) -> anyhow::Result<ExitCode> {
    if args.slow.is_some() && args.output.format() == Format::Csv {
        bail!("--slow has no place in CSV, whose lines all have the same columns: give --json");
    }
    if !args.reasons.is_empty() && args.kind != VMEXIT {
        bail!(
            "--reason chooses among VM exits' reasons: leave out --kind {}",
            args.kind
        );
    }
    let tracefs = Tracefs::find_or_mount()?;
    let pairing = args.pairing(&tracefs)?;
    let reasons = args.reasons.codes(pairing.exit.as_ref())?;
    let kind = pairing.counted.as_ref().map_or(VMEXIT, |it| &it.kind.name);
    let baseline = args.baseline.read(kind, &args.by(), args.sort())?;
    let mut out = args.output.open()?;
    let mut live = Live::begin(LiveOptions {
        entry: kvm_format(&tracefs, "kvm_entry")?,
        pairing: Some(pairing),
        filter: args.target.filter()?,
        sizes: args.sizes(),
        log: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut writer = Writer {
        by: args.by(),
        options: args.view(reasons),
        baseline: baseline.map(|it| (it, args.sort(), args.top)),
        format: args.output.format(),
        look: args.output.look(common, false),
        began: false,
    };
    let mut ring = match args.slow {
        Some(_) => live.take_ring()?,
        None => None,
    };
    let mut last = (ExitGroups::default(), ExitReading::default());
    let mut course = args.ending.begin(args.interval)?;
    loop {
        tokio::select! {
            biased;
            happened = course.next() => match happened? {
                Happened::LookAround => live.look_around()?,
                Happened::Interval => {
                    let now = writer.read(&mut live)?;
                    writer.write(&last, &now, &live, &mut out)?;
                    last = now;
                }
                Happened::End => break,
            },
            ready = ready(&mut ring) => {
                ready?;
                writer.slow(&mut ring, &mut live, &mut out)?;
            }
        }
    }
    live.end()?;
    writer.slow(&mut ring, &mut live, &mut out)?;
    let now = writer.read(&mut live)?;
    if args.interval.is_some() {
        writer.total(&mut out)?;
    }
    let begin = (ExitGroups::default(), ExitReading::default());
    let report = writer.write(&begin, &now, &live, &mut out)?;
    let failed = course.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&report.loss)
    })
}

/// Slow exits may have been reported; never, if none are asked for.
async fn ready(ring: &mut Option<Ring>) -> io::Result<()> {
    match ring {
        Some(ring) => ring.ready().await,
        None => std::future::pending().await,
    }
}

/// All exits at one moment.
type Moment = (ExitGroups, ExitReading);

/// What the kernel half's numbers are called.
pub(super) fn names(live: &Live) -> KeyNames<'_> {
    let pairing = live.options().pairing.as_ref();
    KeyNames {
        reasons: ReasonNames::of(pairing.and_then(|it| it.exit.as_ref())),
        counted: pairing
            .and_then(|it| it.counted.as_ref())
            .map(|it| (&it.kind, &it.format)),
        causes: pairing
            .iter()
            .flat_map(|it| &it.causes)
            .map(|it| (&it.kind, &it.format))
            .collect(),
    }
}

struct Writer {
    by: Vec<Group>,
    options: ExitsOptions,
    /// What to compare with, what comes first then, and how many rows.
    baseline: Option<(Baseline, Option<SortKey>, Option<usize>)>,
    format: Format,
    look: Look,
    began: bool,
}

impl Writer {
    fn read(&self, live: &mut Live) -> anyhow::Result<Moment> {
        let pairing = live.options().pairing.as_ref();
        let counted = pairing.and_then(|it| it.counted.as_ref());
        let mut groups = ExitGroups::new(&self.by, counted.map(|it| &it.kind));
        let reading = live.exits(&mut |exits| groups.add(exits))?;
        groups.add_vcpus(&reading.vcpus);
        Ok((groups, reading))
    }

    /// Writes what came between two moments.
    fn write(
        &mut self,
        (earlier, before): &Moment,
        (groups, reading): &Moment,
        live: &Live,
        out: &mut impl Write,
    ) -> anyhow::Result<ExitsReport> {
        let names = names(live);
        let vm_name = |tgid| live.names().get(tgid).to_owned();
        let since;
        let groups = if before.time_ns == 0 {
            groups
        } else {
            since = groups.since(earlier);
            &since
        };
        let report = ExitsReport::of(
            groups,
            (before.time_ns, reading.time_ns),
            reading.loss.since(&before.loss),
            &self.options,
            &names,
            &vm_name,
        );
        let first = !self.began;
        self.began = true;
        if self.format == Format::Text {
            writeln!(out)?;
        }
        if let Some((baseline, sort, top)) = &self.baseline {
            let diff = DiffReport::of(&report, baseline, *sort, *top);
            match self.format {
                Format::Json => json::line(&diff, out)?,
                Format::Csv => csv::exits_diff(&diff, first, out)?,
                Format::Text => text::exits_diff(&diff, self.look, out)?,
            }
        } else {
            match self.format {
                Format::Json => json::line(&report, out)?,
                Format::Csv => csv::exits(&report, first, out)?,
                Format::Text => text::exits(&report, self.look, out)?,
            }
        }
        out.flush()?;
        Ok(report)
    }

    /// Writes the slow exits that have been reported.
    fn slow(
        &self,
        ring: &mut Option<Ring>,
        live: &mut Live,
        out: &mut impl Write,
    ) -> anyhow::Result<()> {
        let Some(ring) = ring else { return Ok(()) };
        loop {
            let batch = ring.drain();
            if batch.is_empty() {
                return Ok(out.flush()?);
            }
            // Of VMs not seen before, the names must be read while they live.
            live.look_around()?;
            let names = names(live);
            let vm_name = |tgid| live.names().get(tgid).to_owned();
            for (_, record) in batch.records() {
                let Some(exit) = record.slow_exit().filter(|it| self.wants(it)) else {
                    continue;
                };
                let row = SlowRow::of(&exit, &names, &vm_name);
                match self.format {
                    Format::Json => json::line(&row, out)?,
                    _ => text::slow_exit(&row, out)?,
                }
            }
        }
    }

    fn wants(&self, exit: &SlowExit) -> bool {
        let reasons = self.options.reasons.as_ref();
        reasons.is_none_or(|it| it.iter().any(|code| u64::from(*code) == exit.span.key.code))
    }

    fn total(&self, out: &mut impl Write) -> io::Result<()> {
        if self.format == Format::Text {
            writeln!(out, "\n  total")?;
        }
        Ok(())
    }
}
