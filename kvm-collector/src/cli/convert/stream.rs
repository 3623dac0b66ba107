//! What is written while the recording is read: exit by exit, or event by event.

use anyhow::{Context as _, bail};

use super::{
    super::{Common, timing},
    ConvertArgs, RowsOf,
};
use crate::{
    convert::{
        Columns, Conversion, ConvertError, Csv, Done, Parquet, Perfetto, Rows, Sink, Text, play,
    },
    model::Loss,
    session,
    source::{PlayOptions, Recording, RecordingSummary},
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
    let played = play(
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
    Ok((done.summary, done.loss))
}

/// What is to be played.
fn conversion(
    args: &ConvertArgs,
    to: Streamed,
    recording: &Recording,
) -> anyhow::Result<Conversion> {
    let formats = recording.formats();
    let mut selection = args.target.selection()?;
    let exit = formats.iter().find(|it| it.is("kvm", "kvm_exit"));
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
    Ok(Conversion {
        formats: chosen,
        options: PlayOptions {
            selection,
            limits: args.limits(),
            without_raw: false,
        },
        exits,
        reasons,
    })
}

/// One of each kind of target.
fn sink(
    args: &ConvertArgs,
    to: Streamed,
    recording: &Recording,
    conversion: &Conversion,
) -> anyhow::Result<Box<dyn Sink>> {
    let catalog = recording.catalog();
    // When it was by the wall, if the recording's clock is the one it says that of.
    let clocks = catalog
        .clocks
        .filter(|it| catalog.clock() == Some(it.0))
        .map(|it| (it.1, it.2));
    let exit = recording
        .formats()
        .iter()
        .find(|it| it.is("kvm", "kvm_exit"))
        .cloned();
    let columns = match args.rows {
        RowsOf::Exits => Columns::Exits,
        RowsOf::Events => Columns::Events,
    };
    let preempt_watched = conversion
        .exits
        .as_ref()
        .is_some_and(|it| it.pairing.switch.is_some());
    let offset_ns = clocks.map(|(wall_ns, time_ns)| wall_ns.wrapping_sub(time_ns));
    let out = args.open()?;
    Ok(match to {
        Streamed::Perfetto => Box::new(Perfetto::new(exit, catalog.clock(), clocks, out)?),
        Streamed::Parquet => {
            let table = Parquet::new(columns, out)?;
            Box::new(Rows::new(exit, preempt_watched, offset_ns, table))
        }
        Streamed::Csv => {
            let table = Csv::new(columns, out)?;
            Box::new(Rows::new(exit, preempt_watched, offset_ns, table))
        }
        Streamed::Lines { json } => Box::new(Text::new(columns, &conversion.formats, json, out)?),
    })
}

/// The summary on stderr.
fn say_end(args: &ConvertArgs, done: &Done) {
    let mut text = format!("{} events read", done.summary.events);
    if let Some(exits) = done.exits {
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
