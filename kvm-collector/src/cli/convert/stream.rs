//! What is written while the recording is read: exit by exit, or event by event.

use anyhow::{Context as _, bail};

use super::{
    super::{common::Common, timing},
    args::{ConvertArgs, RowsOf},
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

/// What is written so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streamed {
    Perfetto,
    Parquet,
    Csv,
    /// As `trace` has them.
    Lines {
        json: bool,
    },
}

pub(super) fn run(
    args: &ConvertArgs,
    recording: Recording,
    to: Streamed,
    common: Common,
) -> anyhow::Result<(RecordingSummary, Loss)> {
    let conversion = conversion(args, to, &recording)?;
    let mut sink = sink(args, to, &recording, &conversion)?;
    let played = convert_recording(
        recording,
        conversion,
        &mut *sink,
        |recording, options, each| session::play(recording, options, !common.quiet, each),
    );
    let done = match played {
        Err(ConvertError::Write(error)) => return Err(error).context(args.cannot_write()),
        done => done?,
    };
    drop(sink);
    if !common.quiet {
        say_end(args, &done);
    }
    Ok((done.recording, done.loss))
}

/// What is to be played.
fn conversion(
    args: &ConvertArgs,
    to: Streamed,
    recording: &Recording,
) -> anyhow::Result<ConvertOptions> {
    let formats = recording.formats();
    let mut selection = args.target.selection()?;
    let exit = formats.iter().find(|it| it.is_event("kvm", "kvm_exit"));
    let mut reasons = args.reasons.codes(exit)?;
    let as_trace_does = matches!(to, Streamed::Lines { .. });
    let of_exits = to == Streamed::Perfetto || args.rows == RowsOf::Exits;
    let (chosen, exits) = if of_exits && !as_trace_does {
        let pairing = timing::pairing_of_recording;
        let (chosen, options) = timing::of_recording(formats, &args.input, pairing)?;
        (chosen, Some(options))
    } else {
        selection.filter.reasons = reasons.take();
        let needed: &[&str] = match args.rows {
            RowsOf::Exits => &["kvm_exit", "kvm_entry"],
            RowsOf::Events => &[],
        };
        (args.events.among(formats, needed, &args.input)?, None)
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

/// One of each kind of target.
fn sink(
    args: &ConvertArgs,
    to: Streamed,
    recording: &Recording,
    conversion: &ConvertOptions,
) -> anyhow::Result<Box<dyn Sink>> {
    let catalog = recording.metadata();
    // When it was by the wall, if the recording's clock is the one it says that of.
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
        RowsOf::Exits => RowType::Exits,
        RowsOf::Events => RowType::Events,
    };
    let preempt_watched = conversion
        .exit_replay
        .as_ref()
        .is_some_and(|it| it.timing.switch.is_some());
    let offset_ns = clocks.map(|(wall_ns, time_ns)| wall_ns.wrapping_sub(time_ns));
    let out = args.open()?;
    Ok(match to {
        Streamed::Perfetto => Box::new(Perfetto::new(exit, catalog.sample_clock(), clocks, out)?),
        Streamed::Parquet => {
            let table = Parquet::new(columns, out)?;
            Box::new(RowSink::new(exit, preempt_watched, offset_ns, table))
        }
        Streamed::Csv => {
            let table = Csv::new(columns, out)?;
            Box::new(RowSink::new(exit, preempt_watched, offset_ns, table))
        }
        Streamed::Lines { json } => Box::new(Text::new(columns, &conversion.formats, json, out)?),
    })
}

/// The summary on stderr.
fn say_end(args: &ConvertArgs, done: &ConvertSummary) {
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
