//! Targets that are written while the recording is read: one row per exit or event.

use anyhow::{Context as _, bail};

use super::{
    super::{global::GlobalOptions, timing},
    args::{ConvertArgs, RowContents},
};
use crate::{
    convert::{
        ConvertError, ConvertOptions, ConvertSummary, Csv, Parquet, Perfetto, RowSink, RowType,
        Sink, Text, convert_recording,
    },
    model::Loss,
    session,
    source::{PlaybackOptions, Recording, RecordingSummary},
    tracefs::Format,
};

/// A target that is written while the recording is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamTarget {
    Perfetto,
    Parquet,
    Csv,
    /// Lines as `trace` prints them.
    Lines {
        json: bool,
    },
}

pub(super) fn run(
    args: &ConvertArgs,
    recording: Recording,
    to: StreamTarget,
    common: GlobalOptions,
) -> anyhow::Result<(RecordingSummary, Loss)> {
    let conversion = convert_options(args, to, &recording)?;
    let mut sink = new_sink(args, to, &recording, &conversion)?;
    let played = convert_recording(
        recording,
        conversion,
        &mut *sink,
        |recording, options, each| session::read_recording(recording, options, !common.quiet, each),
    );
    let done = match played {
        Err(ConvertError::Write(error)) => return Err(error).context(args.write_error()),
        done => done?,
    };
    drop(sink);
    if !common.quiet {
        print_summary(args, &done);
    }
    Ok((done.recording, done.loss))
}

/// Options of the conversion.
fn convert_options(
    args: &ConvertArgs,
    to: StreamTarget,
    recording: &Recording,
) -> anyhow::Result<ConvertOptions> {
    let formats = recording.formats();
    let mut selection = args.target.for_recording()?;
    let exit = formats.iter().find(|it| it.is_event("kvm", "kvm_exit"));
    let mut reasons = args.reasons.codes(exit)?;
    let as_trace_does = matches!(to, StreamTarget::Lines { .. });
    let of_exits = to == StreamTarget::Perfetto || args.rows == RowContents::Exits;
    let (chosen, exits) = if of_exits && !as_trace_does {
        let pairing = timing::recorded_timing_request;
        let (chosen, options) = timing::replay_options(formats, &args.input, pairing)?;
        (chosen, Some(options))
    } else {
        selection.filter.reasons = reasons.take();
        let needed: &[&str] = match args.rows {
            RowContents::Exits => &["kvm_exit", "kvm_entry"],
            RowContents::Events => &[],
        };
        (args.events.select_from(formats, needed, &args.input)?, None)
    };
    if of_exits && recording.is_sampled(&chosen) {
        bail!(
            "{} holds a sample of the events (`perf record -F` or `-c`), of which no exits can be made: give --rows events",
            args.input.display()
        );
    }
    for warning in chosen.iter().filter_map(Format::print_warning) {
        log::warn!("{warning}");
    }
    Ok(ConvertOptions {
        formats: chosen,
        playback: PlaybackOptions {
            selection,
            limits: args.limits(),
            without_raw: false,
        },
        exit_replay: exits,
        reasons,
    })
}

/// Creates the sink of a target.
fn new_sink(
    args: &ConvertArgs,
    to: StreamTarget,
    recording: &Recording,
    conversion: &ConvertOptions,
) -> anyhow::Result<Box<dyn Sink>> {
    let catalog = recording.metadata();
    // The wall-clock time is known only if the recording states it for the clock of its events.
    let clocks = catalog
        .clock_pair
        .filter(|it| catalog.sample_clock() == Some(it.0))
        .map(|it| (it.1, it.2));
    let exit = recording
        .formats()
        .iter()
        .find(|it| it.is_event("kvm", "kvm_exit"))
        .cloned();
    let columns = match args.rows {
        RowContents::Exits => RowType::Exits,
        RowContents::Events => RowType::Events,
    };
    let preempt_watched = conversion
        .exit_replay
        .as_ref()
        .is_some_and(|it| it.timing.switch.is_some());
    let offset_ns = clocks.map(|(wall_ns, time_ns)| wall_ns.wrapping_sub(time_ns));
    let out = args.open()?;
    Ok(match to {
        StreamTarget::Perfetto => {
            Box::new(Perfetto::new(exit, catalog.sample_clock(), clocks, out)?)
        }
        StreamTarget::Parquet => {
            let table = Parquet::new(columns, out)?;
            Box::new(RowSink::new(exit, preempt_watched, offset_ns, table))
        }
        StreamTarget::Csv => {
            let table = Csv::new(columns, out)?;
            Box::new(RowSink::new(exit, preempt_watched, offset_ns, table))
        }
        StreamTarget::Lines { json } => {
            Box::new(Text::new(columns, &conversion.formats, json, out)?)
        }
    })
}

/// Prints the summary on stderr.
fn print_summary(args: &ConvertArgs, done: &ConvertSummary) {
    let mut text = format!("{} events read", done.recording.events);
    if let Some(exits) = done.exits_written {
        text += &format!(", {exits} exits");
    }
    text += &format!(", {} events lost", done.loss.lost);
    for entry in done.loss.entries() {
        match entry.count {
            Some(count) if count > 0 && entry.name != "lost" => {
                text += &format!("; {count} {}", entry.meaning);
            }
            _ => {}
        }
    }
    eprintln!("kvm-collector: {}: {text}", args.output.display());
}
