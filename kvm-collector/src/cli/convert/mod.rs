//! `kvm-collector convert`.

mod args;
mod html;
mod stream;

use std::{path::Path, process::ExitCode};

use anyhow::bail;

pub(super) use args::ConvertArgs;

use super::{
    common::{Common, INCOMPLETE},
    playback,
};
use crate::source::Recording;
use args::To;
use stream::Streamed;

pub(super) fn run(args: &ConvertArgs, common: Common) -> anyhow::Result<ExitCode> {
    let recording = Recording::open(&args.input)?;
    if is_same_file(&args.input, &args.output) {
        bail!(
            "{} is the recording itself: choose another file for the result",
            args.output.display()
        );
    }
    let stream = |recording, to| stream::run(args, recording, to, common);
    let (summary, loss) = match args.to {
        To::Perfetto => stream(recording, Streamed::Perfetto),
        To::Parquet => stream(recording, Streamed::Parquet),
        To::Csv => stream(recording, Streamed::Csv),
        To::Json => stream(recording, Streamed::Lines { json: true }),
        To::Text => stream(recording, Streamed::Lines { json: false }),
        To::Html => html::run(args, recording, common),
    }?;
    playback::report_end(&summary, &args.target, &args.input)?;
    Ok(if args.strict && !loss.is_empty() {
        ExitCode::from(INCOMPLETE)
    } else {
        ExitCode::SUCCESS
    })
}

/// Would the result be written over the recording?
fn is_same_file(input: &Path, output: &Path) -> bool {
    match (input.canonicalize(), output.canonicalize()) {
        (Ok(input), Ok(output)) => input == output,
        _ => false,
    }
}
