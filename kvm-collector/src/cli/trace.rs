//! `kvm-collector trace`.

use std::{io::Write as _, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    Common,
    ending::{Ending, Happened, duration},
    output::{self, color},
    selection::{Events, Reasons, Target, kvm_format},
};
use crate::{
    host::clock,
    model::{Counts, Event},
    probe::MapSizes,
    source::{Live, LiveOptions, Ordered, WINDOW_NS},
    tracefs::{Format, Tracefs},
    view::{Clock, Filters, SpanOptions, Spans, TraceFormat, TraceLines},
};

/// Print every event, in the kernel's own words
///
/// A line an event, as `cat trace_pipe` prints them: thread, CPU, time in seconds of CLOCK_MONOTONIC,
/// event, and what the kernel says of it. Events that did not fit into the ring buffer are reported
/// where they are missing: how many, and of which event.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector trace                             all kvm events until Ctrl-C
  kvm-collector trace -e kvm_exit,kvm_pio --vm web-1 --vcpu 0
  kvm-collector trace --json -d 1s -e 'kvmmmu:*'")]
pub(super) struct TraceArgs {
    #[command(flatten)]
    events: Events,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ending: Ending,

    #[command(flatten)]
    reasons: Reasons,

    /// Only events whose fields are so, as ftrace's filters: 'kvm_pio.port == 0x3f8 && rw == 1'; other
    /// events pass. Can be given more than once
    #[arg(long = "filter", value_name = "FILTER", help_heading = "Selection")]
    filters: Vec<String>,

    /// Only exits that took at least this long (100us), with what happened inside them
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Selection")]
    min_duration: Option<Duration>,

    /// One line per exit: reason, duration, and what happened inside
    #[arg(long, conflicts_with = "fields", help_heading = "Output")]
    per_exit: bool,

    /// Which time to show
    #[arg(
        long,
        value_name = "CLOCK",
        default_value = "mono",
        help_heading = "Output"
    )]
    time: Time,

    /// How to write events
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    format: OutputFormat,

    /// Short for --format json: one object per line
    #[arg(long, conflicts_with = "format", help_heading = "Output")]
    json: bool,

    /// name=value of each field, instead of the kernel's own words
    #[arg(long, help_heading = "Output")]
    fields: bool,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<std::path::PathBuf>,

    /// Size of the ring buffer (64K, 8M): a power of two
    #[arg(long, value_name = "BYTES", default_value = "8M", value_parser = ring_bytes, help_heading = "Output")]
    ring: u32,

    /// End with exit code 3 if any event was lost
    #[arg(long, help_heading = "Output")]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people
    Text,
    /// One object per line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Time {
    /// Seconds of CLOCK_MONOTONIC
    Mono,
    /// Date and time of day, UTC
    Wall,
    /// Seconds since the line before
    Delta,
}

/// A size in bytes: a number with K or M behind it, or without.
fn ring_bytes(text: &str) -> Result<u32, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        _ => (text, 0),
    };
    digits
        .parse::<u32>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| bytes.is_power_of_two() && (4096..=1 << 30).contains(bytes))
        .ok_or_else(|| "give a power of two from 4K to 1024M, such as 64K or 8M".into())
}

pub(super) async fn run(args: TraceArgs, common: Common) -> anyhow::Result<ExitCode> {
    let tracefs = Tracefs::find_or_mount()?;
    let mut filter = args.target.filter()?;
    let exit = kvm_format(&tracefs, "kvm_exit")?;
    filter.reasons = args.reasons.codes(exit.as_ref())?;
    let spans = args.per_exit || args.min_duration.is_some();
    let events = if spans {
        args.events
            .formats_and(&tracefs, &["kvm_exit", "kvm_entry"])?
    } else {
        args.events.formats(&tracefs)?
    };
    let filters = Filters::new(&args.filters, &events)?;
    for warning in events.iter().filter_map(Format::print_warning) {
        log::warn!("{warning}");
    }
    let mut out = output::open(args.output.as_ref())?;
    let mut live = Live::begin(LiveOptions {
        events,
        filter,
        entry: kvm_format(&tracefs, "kvm_entry")?,
        ship: true,
        sizes: MapSizes {
            ring_bytes: args.ring,
            ..MapSizes::default()
        },
        log: common.kernel_log,
        ..LiveOptions::default()
    })?;
    let mut ring = live
        .take_ring()?
        .ok_or_else(|| anyhow::anyhow!("the eBPF object has no ring buffer"))?;
    let json = args.json || args.format == OutputFormat::Json;
    let format = match (json, args.fields) {
        (true, _) => TraceFormat::Json,
        (false, true) => TraceFormat::Fields,
        (false, false) => TraceFormat::Kernel,
    };
    let colored = color(common.color, args.output.is_none());
    let clock = match args.time {
        Time::Mono => Clock::Mono,
        Time::Delta => Clock::Delta,
        Time::Wall => Clock::Wall {
            offset_ns: clock::real_ns().saturating_sub(clock::monotonic_ns()),
        },
    };
    let formats = live.options().events.len();
    let mut printer = Printer {
        lines: TraceLines::new(formats, format, clock, colored),
        spans: spans.then(|| {
            let options = SpanOptions {
                min_ns: args
                    .min_duration
                    .map_or(0, |it| u64::try_from(it.as_nanos()).unwrap_or(u64::MAX)),
                per_exit: args.per_exit,
                json,
            };
            Spans::new(&live.options().events, options)
        }),
        filters,
    };
    let mut ordered = Ordered::default();
    let mut course = args.ending.begin(None)?;
    loop {
        tokio::select! {
            biased;
            happened = course.next() => match happened? {
                Happened::End => break,
                Happened::LookAround | Happened::Interval => {
                    live.look_around()?;
                    printer.lines.lost(&live.events()?, clock::monotonic_ns(), &mut out)?;
                }
            },
            ready = ring.ready() => ready?,
        }
        let until_ns = clock::monotonic_ns() - WINDOW_NS;
        // As much as there is, but not for ever: on a busy host there is always more.
        for _ in 0..8 {
            let batch = ring.drain();
            if batch.is_empty() {
                break;
            }
            ordered.take_in(batch);
        }
        ordered.give_out(until_ns, |event, comm| {
            printer.event(event, &live.options().events, comm, &mut out)
        })?;
        out.flush()?;
    }
    live.end()?;
    loop {
        let batch = ring.drain();
        let last = batch.is_empty();
        ordered.take_in(batch);
        let until_ns = if last { u64::MAX } else { live.began_ns() };
        ordered.give_out(until_ns, |event, comm| {
            printer.event(event, &live.options().events, comm, &mut out)
        })?;
        if last {
            break;
        }
    }
    let Counts {
        events,
        time_ns,
        loss,
        ..
    } = live.counts()?;
    printer.lines.lost(&events, time_ns, &mut out)?;
    out.flush()?;
    if !common.quiet {
        eprintln!(
            "kvm-collector: {} {} printed, {} events lost{}{}",
            printer.lines.printed(),
            if args.per_exit { "exits" } else { "events" },
            loss.lost,
            if ordered.late() > 0 {
                format!(", {} printed out of order", ordered.late())
            } else {
                String::new()
            },
            if loss.unattributed > 0 {
                format!(
                    ", {} left out because their thread's vCPU is not known",
                    loss.unattributed
                )
            } else {
                String::new()
            }
        );
    }
    let failed = course.finish().await?;
    Ok(match (failed, args.strict && !loss.is_none()) {
        (true, _) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(super::INCOMPLETE),
        (false, false) => ExitCode::SUCCESS,
    })
}

/// What becomes of an event.
struct Printer {
    lines: TraceLines,
    spans: Option<Spans>,
    filters: Filters,
}

impl Printer {
    fn event(
        &mut self,
        event: &Event<'_>,
        formats: &[Format],
        comm: &str,
        out: &mut impl std::io::Write,
    ) -> std::io::Result<()> {
        if !self.filters.pass(event.slot, event.raw) {
            return Ok(());
        }
        match &mut self.spans {
            Some(spans) => spans.event(event, formats, comm, &mut self.lines, out),
            None => self.lines.event(event, formats, comm, out),
        }
    }
}
