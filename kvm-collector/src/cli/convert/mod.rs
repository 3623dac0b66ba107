//! `kvm-collector convert`.

mod args;
mod html;
mod output_files;
mod stream;
mod summary;

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;

pub(super) use args::ConvertArgs;

use super::{
    global::{EXIT_INCOMPLETE, GlobalOptions},
    inputs::Inputs,
    named_output::check_outputs,
    origin,
    output::write_losses,
    recording,
    target_format::TargetFormat,
};
use crate::{source::Recording, view::LossReport};
use args::write_error;
use output_files::Output;
use stream::StreamTarget;

pub(super) fn run(mut args: ConvertArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let format = args.target_format()?;
    args.check_options(format)?;
    if let Some(path) = Inputs::find_one(std::slice::from_ref(&args.input), "convert")? {
        args.input = path;
    }
    let args = &args;
    let recording = Recording::open(&args.input)?;
    let inputs = std::slice::from_ref(&args.input);
    check_outputs(inputs, Some(&args.output), args.loss.as_deref())?;
    let output = Output::default();
    let loss_output = args.open_loss(&output)?;
    let wall_offset_ns = recording.metadata().wall_offset_ns();
    let stream = |recording, to| stream::run(args, &output, recording, to, global);
    let origin = origin::of_recording(&args.input, &recording, args.selected_by());
    let converted = match format {
        TargetFormat::Perfetto => stream(recording, StreamTarget::Perfetto),
        TargetFormat::Parquet => stream(recording, StreamTarget::Parquet),
        TargetFormat::Csv => stream(recording, StreamTarget::Csv),
        TargetFormat::Json => stream(recording, StreamTarget::Lines { json: true }),
        TargetFormat::Text => stream(recording, StreamTarget::Lines { json: false }),
        TargetFormat::Html => html::run(args, &output, recording, global),
    }?;
    let (summary, loss) = (&converted.summary, converted.loss);
    args.range.check(summary, wall_offset_ns, &args.input)?;
    recording::report_end(summary, &args.target, &args.input)?;
    let mut files = output.count();
    if let Some((path, mut out)) = loss_output {
        files -= 1;
        let report = LossReport::new(summary.period_ns, loss);
        write_losses(&report, &origin, &mut out)
            .and_then(|()| out.flush())
            .with_context(|| write_error(path))?;
    }
    output.complete()?;
    if !global.quiet {
        summary::print(args, &converted, files);
    }
    summary::warn_if_empty(args, &converted);
    Ok(if args.strict && !loss.is_empty() {
        ExitCode::from(EXIT_INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}
