//! `kvm-collector convert`.

mod args;
mod html;
mod output_files;
mod stream;
mod summary;

use std::{path::Path, process::ExitCode};

use anyhow::{Context as _, bail};

pub(super) use args::ConvertArgs;

use super::{
    global::{EXIT_INCOMPLETE, GlobalOptions},
    origin,
    output::write_losses,
    recording,
};
use crate::{source::Recording, view::LossReport};
use args::TargetFormat;
use stream::StreamTarget;

pub(super) fn run(args: &ConvertArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let format = args.target_format()?;
    args.check_options(format)?;
    let recording = Recording::open(&args.input)?;
    for path in [&args.output].into_iter().chain(&args.loss) {
        if is_same_file(&args.input, path) {
            bail!(
                "{} is the recording itself: choose another file for the result",
                path.display()
            );
        }
    }
    let wall_offset_ns = recording.metadata().wall_offset_ns();
    let stream = |recording, to| stream::run(args, recording, to, global);
    let origin = origin::of_recording(&args.input, recording.metadata(), args.selected_by());
    let converted = match format {
        TargetFormat::Perfetto => stream(recording, StreamTarget::Perfetto),
        TargetFormat::Parquet => stream(recording, StreamTarget::Parquet),
        TargetFormat::Csv => stream(recording, StreamTarget::Csv),
        TargetFormat::Json => stream(recording, StreamTarget::Lines { json: true }),
        TargetFormat::Text => stream(recording, StreamTarget::Lines { json: false }),
        TargetFormat::Html => html::run(args, recording, global),
    }?;
    let (summary, loss) = (&converted.summary, converted.loss);
    args.range.check(summary, wall_offset_ns, &args.input)?;
    recording::report_end(summary, &args.target, &args.input)?;
    if let Some(path) = &args.loss {
        let start_ns = summary.start_ns.unwrap_or(summary.end_ns);
        let report = LossReport::new((start_ns, summary.end_ns), loss);
        write_losses(path, &report, &origin)?;
    }
    if !global.quiet {
        summary::print(args, &converted);
    }
    let output = converted.output;
    output.finish().with_context(|| args.write_error())?;
    Ok(if args.strict && !loss.is_empty() {
        ExitCode::from(EXIT_INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns whether an output would overwrite the recording.
fn is_same_file(input: &Path, output: &Path) -> bool {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) => input == output,
        _ => false,
    }
}
