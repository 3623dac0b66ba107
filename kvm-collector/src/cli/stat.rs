//! `kvm-collector stat`.

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Args;

use super::{
    Common,
    ending::{Ending, Happened, duration},
    output::{Format, Output},
    own::OwnArgs,
    playback::{self, Input, Playback},
    selection::{Events, Target, kvm_format},
};
use crate::{
    format::{csv, json, text, text::Look},
    host::watch::ModuleWatch,
    model::{Counts, Loss},
    source::{Live, LiveOptions, Played, Tally},
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
    ending: Ending,
    #[command(flatten)]
    own: OwnArgs,
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
    if let Some(path) = args.input.input.clone() {
        return of_recording(&args, &path, common);
    }
    let tracefs = Tracefs::find_or_mount()?;
    let mut out = args.output.open()?;
    let look = args.output.look(common, args.zeros);
    let own = args.own.begin()?;
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
        heading: match args.ending.command_line() {
            Some(command) => format!("KVM events{} while `{command}` runs", args.target.heading()),
            None => format!("KVM events{}", args.target.heading()),
        },
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
    if let Some(own) = own {
        own.say(&live)?;
    }
    let failed = course.finish().await?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        args.output.exit_code(&total.loss)
    })
}

/// The same from a recording: its time goes from its first event to its last.
fn of_recording(args: &StatArgs, path: &Path, common: Common) -> anyhow::Result<ExitCode> {
    let mut playback = Playback::open(path, &args.events, &[], &args.target, None)?;
    playback.selection.without_raw = true;
    let mut out = args.output.open()?;
    let mut writer = Writer {
        format: args.output.format(),
        look: args.output.look(common, args.zeros),
        began: false,
        heading: format!("Events{} in {}", args.target.heading(), path.display()),
    };
    let mut tally = Tally::new(&playback.formats, args.per_vm);
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let interval_ns = args.interval.map(ns);
    let duration_ns = args.ending.duration().map(ns);
    let mut span: Option<Span> = None;
    let mut lost = 0;
    let ended = playback
        .recording
        .play(&playback.selection, |played, names| {
            let event = match played {
                Played::Event(event) => event,
                Played::Lost {
                    slot, lost: more, ..
                } => {
                    lost += more;
                    if let Some(slot) = slot {
                        tally.lost(*slot, *more);
                    }
                    return Ok::<_, anyhow::Error>(true);
                }
            };
            let span = span.get_or_insert_with(|| Span {
                began_ns: event.time_ns,
                last: tally.counts(event.time_ns, names, Loss::default()),
                first: tally.counts(event.time_ns, names, Loss::default()),
                newest_ns: event.time_ns,
            });
            if duration_ns.is_some_and(|it| event.time_ns.saturating_sub(span.began_ns) >= it) {
                return Ok(false);
            }
            // All intervals that this event is behind of.
            while let Some(interval_ns) = interval_ns
                && event.time_ns.saturating_sub(span.last.time_ns) >= interval_ns
            {
                let now = tally.counts(
                    span.last.time_ns + interval_ns,
                    names,
                    Loss {
                        lost,
                        ..Loss::default()
                    },
                );
                writer.write(
                    &StatReport::between(span.began_ns, &span.last, &now),
                    &mut out,
                )?;
                span.last = now;
            }
            span.newest_ns = span.newest_ns.max(event.time_ns);
            tally.add(event);
            Ok(true)
        })?;
    if interval_ns.is_some() {
        writer.total(&mut out)?;
    }
    let nothing = Counts {
        time_ns: 0,
        ..tally.counts(0, &ended.names, Loss::default())
    };
    let (began_ns, first, newest_ns) =
        span.map_or((0, nothing, 0), |it| (it.began_ns, it.first, it.newest_ns));
    let total = tally.counts(newest_ns, &ended.names, ended.loss);
    let total = StatReport::between(began_ns, &first, &total);
    writer.write(&total, &mut out)?;
    playback::report_end(&ended, &args.target, path)?;
    Ok(args.output.exit_code(&total.loss))
}

/// The time of a recording, as far as it has been read.
struct Span {
    began_ns: u64,
    first: Counts,
    /// When the last interval ended.
    last: Counts,
    newest_ns: u64,
}

struct Writer {
    format: Format,
    look: Look,
    began: bool,
    heading: String,
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
                    writeln!(out, "\n  {}\n", self.heading)?;
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
