//! `kvm-collector trace`.

use std::{io::Write as _, process::ExitCode};

use clap::{Args, ValueEnum};

use super::{
    Common,
    ending::{Ending, Happened},
    output::{self, color},
    selection::{Events, Target, kvm_format},
};
use crate::{
    host::clock,
    model::Loss,
    probe::MapSizes,
    source::{Live, LiveOptions, Ordered, WINDOW_NS},
    tracefs::Tracefs,
    view::{TraceFormat, TraceLines},
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

    /// How to write events
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Output"
    )]
    format: Format,

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
enum Format {
    /// For people
    Text,
    /// One object per line
    Json,
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
    let mut out = output::open(args.output.as_ref())?;
    let mut live = Live::begin(LiveOptions {
        events: args.events.formats(&tracefs)?,
        filter: args.target.filter()?,
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
    let format = match (args.json || args.format == Format::Json, args.fields) {
        (true, _) => TraceFormat::Json,
        (false, true) => TraceFormat::Fields,
        (false, false) => TraceFormat::Kernel,
    };
    let colored = color(common.color, args.output.is_none());
    let mut lines = TraceLines::new(live.options().events.len(), format, colored);
    let mut ordered = Ordered::default();
    let mut course = args.ending.begin(None)?;
    loop {
        tokio::select! {
            biased;
            happened = course.next() => match happened? {
                Happened::End => break,
                Happened::LookAround | Happened::Interval => {
                    report_lost(&mut live, &mut lines, &mut out)?;
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
        ordered.give_out(until_ns, |record, comm| {
            lines.event(record, &live.options().events, comm, &mut out)
        })?;
        out.flush()?;
    }
    live.end()?;
    loop {
        let batch = ring.drain();
        let last = batch.is_empty();
        ordered.take_in(batch);
        let until_ns = if last { u64::MAX } else { live.began_ns() };
        ordered.give_out(until_ns, |record, comm| {
            lines.event(record, &live.options().events, comm, &mut out)
        })?;
        if last {
            break;
        }
    }
    let loss = report_lost(&mut live, &mut lines, &mut out)?;
    out.flush()?;
    if !common.quiet {
        eprintln!(
            "kvm-collector: {} events printed, {} lost{}",
            lines.printed(),
            loss.lost,
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

fn report_lost(
    live: &mut Live,
    lines: &mut TraceLines,
    out: &mut impl std::io::Write,
) -> anyhow::Result<Loss> {
    live.look_around()?;
    let counts = live.counts()?;
    lines.lost(&counts, out)?;
    Ok(counts.loss)
}
