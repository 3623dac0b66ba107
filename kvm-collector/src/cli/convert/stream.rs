//! Targets that are written while the recording is read: all except HTML.

use std::path::Path;

use anyhow::Context as _;

use super::{
    super::{
        event_formats::EventFormats, global::GlobalOptions, origin, recording, timing,
        usage::bail_usage,
    },
    args::{ConvertArgs, Converted, RowContents, Selected},
    output_files::{Output, Writer},
};
use crate::{
    convert::{
        ConvertError, ConvertOptions, Csv, Parquet, ParquetPartitions, PartitionKey, Perfetto,
        RowSink, RowType, Sink, Text, convert_recording,
    },
    session,
    source::{PlaybackOptions, Recording},
    timing::TimingRequest,
    tracefs::Format,
    view::{ExitNames, ExitRecords},
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
    output: &Output,
    recording: Recording,
    to: StreamTarget,
    global: GlobalOptions,
) -> anyhow::Result<Converted> {
    let conversion = conversion_options(args, to, &recording)?;
    if args.output == Path::new("-") {
        // A file appears only at success.
        let (formats, playback) = (&conversion.formats, &conversion.playback);
        recording::check_target_first(&args.input, formats, &args.target, playback)?;
    }
    let mut sink = match args.partition_folder() {
        Some(folder) => new_partitions(args, output, folder, &recording, &conversion)?,
        None => new_sink(args, to, &recording, &conversion, args.open(output)?)?,
    };
    let filter = &conversion.playback.selection.filter;
    let selected = Selected {
        formats: conversion.formats.clone(),
        codes: conversion
            .reasons
            .as_ref()
            .or(filter.reasons.as_ref())
            .cloned(),
        is_part: conversion.playback.limits.is_part(),
    };
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
    Ok(Converted {
        summary: summary.recording,
        loss: summary.loss,
        exits_written: summary.exits_written,
        selected,
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
    let needs_exits = to == StreamTarget::Perfetto || args.rows() == RowContents::Exits;
    let (selected, exits) = if needs_exits && !is_lines {
        let (selected, options) = timing::replay_options(formats, &args.input, timing_request)?;
        (selected, Some(options))
    } else {
        selection.filter.reasons = reasons.take();
        let required: &[&str] = match args.rows() {
            RowContents::Exits => &["kvm:kvm_exit", "kvm:kvm_entry"],
            RowContents::Events => &[],
        };
        let selected = args.events.select_from(formats, required, &args.input)?;
        args.reasons.check_effect(&selected)?;
        if !needs_exits {
            args.reasons
                .warn_about_other_events(&args.events, "converted", "-e kvm_exit");
        }
        (selected, None)
    };
    if needs_exits && recording.is_sampled(&selected) {
        bail_usage!(
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
        identifies_vcpus: !needs_exits,
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
    let origin = origin::of_recording(&args.input, recording, args.selected_by());
    let (timing, rows) = (timing_of(conversion), row_type(args));
    Ok(match to {
        StreamTarget::Perfetto => {
            let (names, clocks) = (ExitNames::new(timing), metadata.wall_and_event_ns());
            let clock = metadata.sample_clock();
            Box::new(Perfetto::new(names, &origin, clock, clocks, out)?)
        }
        StreamTarget::Parquet => {
            let table = Parquet::new(rows, &origin, out)?;
            Box::new(RowSink::new(ExitRecords::new(timing, origin), table))
        }
        StreamTarget::Csv => {
            let table = Csv::new(rows, out)?;
            Box::new(RowSink::new(ExitRecords::new(timing, origin), table))
        }
        StreamTarget::Lines { json } => {
            Box::new(Text::new(rows, &conversion.formats, json, origin, out)?)
        }
    })
}

/// Creates the sink of a table in several files, which are added to the output.
fn new_partitions(
    args: &ConvertArgs,
    output: &Output,
    folder: &Path,
    recording: &Recording,
    conversion: &ConvertOptions,
) -> anyhow::Result<Box<dyn Sink>> {
    let metadata = recording.metadata();
    let keys = args.partition_keys();
    if keys.contains(&PartitionKey::Day) && metadata.wall_offset_ns().is_none() {
        bail_usage!(
            "{} does not contain the date, so it cannot be divided into days: use --partition host",
            args.input.display()
        );
    }
    let origin = origin::of_recording(&args.input, recording, args.selected_by());
    let (files, folder) = (output.clone(), folder.to_owned());
    let create = move |path: &Path| files.create_in(&folder, path);
    let table = match ParquetPartitions::new(row_type(args), origin.clone(), keys, create) {
        Ok(table) => table,
        Err(error) => bail_usage!(
            "{} cannot be divided by host: {error}: use --partition dt",
            args.input.display()
        ),
    };
    let records = ExitRecords::new(timing_of(conversion), origin);
    Ok(Box::new(RowSink::new(records, table)))
}

/// Returns what a row of the table represents.
fn row_type(args: &ConvertArgs) -> RowType {
    match args.rows() {
        RowContents::Exits => RowType::Exits,
        RowContents::Events => RowType::Events,
    }
}

/// Returns the request by which exits are timed. It is empty if events are converted.
fn timing_of(conversion: &ConvertOptions) -> TimingRequest {
    let replay = conversion.exit_replay.as_ref();
    replay.map(|it| it.timing.clone()).unwrap_or_default()
}

/// Builds the request to time exits by reason, with their causes.
fn timing_request(formats: &EventFormats<'_>) -> anyhow::Result<TimingRequest> {
    Ok(TimingRequest {
        cause_events: timing::default_cause_events(formats)?,
        ..timing::timing_request(formats, None, false)?
    })
}
