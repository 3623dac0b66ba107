//! Targets that are written while the recording is read: all except HTML.

use anyhow::{Context as _, bail};

use super::{
    super::{global::GlobalOptions, timing},
    args::{ConvertArgs, Converted, RowContents, Writer},
};
use crate::{
    convert::{
        ConvertError, ConvertOptions, ConvertSummary, Csv, Parquet, Perfetto, RowSink, RowType,
        Sink, Text, convert_recording,
    },
    format::describe_loss,
    session,
    source::{PlaybackOptions, Recording},
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
    global: GlobalOptions,
) -> anyhow::Result<Converted> {
    let conversion = conversion_options(args, to, &recording)?;
    let (output, out) = args.open()?;
    let mut sink = new_sink(args, to, &recording, &conversion, out)?;
    let result = convert_recording(
        recording,
        conversion,
        &mut *sink,
        |recording, options, each| session::read_recording(recording, options, !global.quiet, each),
    );
    let summary = match result {
        Err(ConvertError::Write(error)) => return Err(error).context(args.write_error()),
        summary => summary?,
    };
    drop(sink);
    if !global.quiet {
        print_summary(args, &summary);
    }
    Ok(Converted {
        summary: summary.recording,
        loss: summary.loss,
        output,
    })
}

/// Returns the options of the conversion.
fn conversion_options(
    args: &ConvertArgs,
    to: StreamTarget,
    recording: &Recording,
) -> anyhow::Result<ConvertOptions> {
    let formats = recording.formats();
    let mut selection = args.target.for_recording()?;
    let exit = formats.iter().find(|it| it.is_event("kvm", "kvm_exit"));
    let mut reasons = args.reasons.codes(exit, recording.metadata().isa())?;
    let is_lines = matches!(to, StreamTarget::Lines { .. });
    let needs_exits = to == StreamTarget::Perfetto || args.rows == RowContents::Exits;
    let (selected, exits) = if needs_exits && !is_lines {
        let request = timing::recorded_timing_request;
        let (selected, options) = timing::replay_options(formats, &args.input, request)?;
        (selected, Some(options))
    } else {
        selection.filter.reasons = reasons.take();
        let required: &[&str] = match args.rows {
            RowContents::Exits => &["kvm:kvm_exit", "kvm:kvm_entry"],
            RowContents::Events => &[],
        };
        (
            args.events.select_from(formats, required, &args.input)?,
            None,
        )
    };
    if needs_exits && recording.is_sampled(&selected) {
        bail!(
            "{} contains only a sample of the events (`perf record -F` or `-c`), so exits cannot be timed: use --rows events",
            args.input.display()
        );
    }
    for warning in selected.iter().filter_map(Format::print_warning) {
        log::warn!("{warning}");
    }
    Ok(ConvertOptions {
        formats: selected,
        playback: PlaybackOptions {
            selection,
            limits: args.limits(recording.metadata())?,
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
    out: Writer,
) -> anyhow::Result<Box<dyn Sink>> {
    let metadata = recording.metadata();
    let clocks = metadata.wall_and_event_ns();
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
    let offset_ns = metadata.wall_offset_ns();
    Ok(match to {
        StreamTarget::Perfetto => {
            Box::new(Perfetto::new(exit, metadata.sample_clock(), clocks, out)?)
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
fn print_summary(args: &ConvertArgs, summary: &ConvertSummary) {
    let mut text = format!("{} events read", summary.recording.events);
    if let Some(exits) = summary.exits_written {
        text += &format!(", {exits} exits");
    }
    text += &format!(", {} events lost", summary.loss.lost);
    for entry in summary.loss.entries() {
        match entry.count {
            Some(count) if count > 0 && entry.name != "lost" => {
                text += &format!("; {}", describe_loss(&entry, count));
            }
            _ => {}
        }
    }
    eprintln!("kvm-collector: {}: {text}", args.output.display());
}
