//! Arguments of `exits`.

use std::{io::Write, time::Duration};

use clap::{Args, ValueEnum};

use super::writer::Writer;
use crate::{
    cli::{
        baseline::BaselineArgs,
        common::Common,
        ending::{EndingArgs, OwnArgs, duration},
        output::Output,
        playback::Input,
        selection::{Reasons, Target},
        timing::{self, Find, detail},
    },
    model::{EventKind, VMEXIT},
    timing::{DetailEvent, TimingRequest},
    view::{ExitsOptions, Group, SortKey},
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
  kvm-collector exits --slow 1ms                  also print each exit that takes longer
  kvm-collector exits -i perf.data --by vm        from a recording")]
pub(in crate::cli) struct ExitsArgs {
    #[command(flatten)]
    pub(super) input: Input,

    #[command(flatten)]
    pub(super) target: Target,

    #[command(flatten)]
    pub(super) reasons: Reasons,

    #[command(flatten)]
    pub(super) ending: EndingArgs,
    #[command(flatten)]
    pub(super) own: OwnArgs,

    /// Report each interval (100ms, 1s), also the last, shorter one, and the total at the end
    #[arg(short = 'I', long, value_name = "TIME", value_parser = duration, help_heading = "Duration")]
    pub(super) interval: Option<Duration>,

    #[command(flatten)]
    pub(super) output: Output,

    /// What is counted: vmexit (by reason), userspace, mmio, pio, msr, hypercall, cpuid, page-fault, or any
    /// kvm event's field (kvm_eoi.vector)
    #[arg(
        long,
        value_name = "KIND",
        default_value = VMEXIT,
        help_heading = "Selection"
    )]
    pub(super) kind: String,

    /// Group rows by
    #[arg(
        long,
        value_name = "KEYS",
        value_delimiter = ',',
        default_value = "reason",
        help_heading = "Output"
    )]
    pub(super) by: Vec<By>,

    /// What comes first [default: time; with --baseline, what changed the most in busy time]
    #[arg(long, value_name = "KEY", help_heading = "Output")]
    pub(super) sort: Option<Sort>,

    /// Only so many rows
    #[arg(long, value_name = "N", help_heading = "Output")]
    pub(super) top: Option<usize>,

    /// These percentiles instead of the 50th and the 99th
    #[arg(
        long,
        value_name = "P,P",
        value_delimiter = ',',
        value_parser = percentile,
        help_heading = "Output"
    )]
    pub(super) percentiles: Vec<f64>,

    /// Also show each row's histogram
    #[arg(long, help_heading = "Output")]
    pub(super) hist: bool,

    /// Under each row, its N most frequent causes
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = false,
        default_missing_value = "5",
        help_heading = "Output"
    )]
    pub(super) causes: Option<usize>,

    /// What counts as a cause: rip (where the guest was), and kinds as for --kind. By default whichever of
    /// mmio, pio, msr, hypercall, cpuid and page-fault happens
    #[arg(
        long,
        value_name = "KIND",
        value_delimiter = ',',
        help_heading = "Output"
    )]
    pub(super) cause: Vec<String>,

    /// Say what is usually done about what is worth it: 5 % of its VM's or vCPU's exits or of their time
    /// without idle, and at least 1 ms of that each second. Watches causes, too. docs/advice.md says why
    #[arg(long, help_heading = "Output")]
    pub(super) advice: bool,

    #[command(flatten)]
    pub(super) baseline: BaselineArgs,

    /// Also print each exit that takes longer than this (halted time does not count), as it ends
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Output")]
    pub(super) slow: Option<Duration>,

    /// Measure preemption: time a runnable vCPU thread waited for a CPU. Adds a program to sched_switch, so every
    /// context switch of the host costs slightly more
    #[arg(long, help_heading = "Selection")]
    pub(super) preempt: bool,

    /// Room for so many rows of (thread, reason) in the kernel, at 2.5 KB each; by default 25 for each vCPU
    /// there is, and 4096 at least
    #[arg(long, value_name = "N", help_heading = "Output",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) max_rows: Option<u32>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum By {
    /// The VM
    Vm,
    /// The vCPU
    Vcpu,
    /// Why the guest was left, or what else is counted
    Reason,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Sort {
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

    /// What is asked for, of events whose formats are found by `find`.
    pub(super) fn pairing(&self, find: &Find<'_>) -> anyhow::Result<TimingRequest> {
        let counted = match self.kind.as_str() {
            VMEXIT => None,
            name => Some(EventKind::from_name(name)?),
        };
        let mut pairing = timing::pairing(find, counted, self.preempt)?;
        pairing.slow_threshold = self.slow;
        if self.causes.is_none() && self.slow.is_none() && !self.advice {
            return Ok(pairing);
        }
        for name in &self.cause {
            match name.as_str() {
                "rip" => pairing.rip_is_cause = true,
                name => pairing
                    .cause_events
                    .push(detail(find, EventKind::from_name(name)?)?),
            }
        }
        if self.cause.is_empty() {
            for kind in EventKind::cause_kinds() {
                // Not every kernel has, and not every recording, each of them.
                if let Some(format) = find("kvm", &kind.event)? {
                    pairing.cause_events.push(DetailEvent { kind, format });
                }
            }
        }
        let counted = pairing
            .counted_event
            .as_ref()
            .map(|it| it.kind.event.clone());
        let of_counted = |cause: &DetailEvent| counted.as_ref() == Some(&cause.kind.event);
        pairing.cause_events.retain(|cause| !of_counted(cause));
        Ok(pairing)
    }

    pub(super) fn writer(
        &self,
        reasons: Option<Vec<u32>>,
        pairing: &TimingRequest,
        common: Common,
    ) -> anyhow::Result<Writer<impl Write + use<>>> {
        let kind = pairing
            .counted_event
            .as_ref()
            .map_or(VMEXIT, |it| &it.kind.name);
        let baseline = self.baseline.read(kind, &self.by(), self.sort())?;
        Ok(Writer {
            by: self.by(),
            options: self.view(reasons),
            baseline: baseline.map(|it| (it, self.sort(), self.top)),
            format: self.output.format(),
            look: self.output.look(common, false),
            began: false,
            has_intervals: self.interval.is_some(),
            out: self.output.open()?,
            total: None,
        })
    }
}
