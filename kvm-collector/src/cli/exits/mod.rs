//! `kvm-collector exits`.

mod args;
mod live;
mod recorded;
mod several;
mod writer;

use std::process::ExitCode;

pub(super) use args::ExitsArgs;

use super::{global::GlobalOptions, inputs::Inputs, output::OutputFormat, usage::bail_usage};
use crate::model::VMEXIT;

pub(super) async fn run(args: ExitsArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    if args.slow.is_some() && args.output.format() == OutputFormat::Csv {
        bail_usage!(
            "--slow cannot be used with CSV output, where all lines have the same columns: use --json"
        );
    }
    if !args.reasons.is_empty() && args.kind != VMEXIT {
        bail_usage!(
            "--reason cannot be used with --kind {}: it selects VM exits by reason",
            args.kind
        );
    }
    if args.is_by_host() {
        args.check_without_baseline()?;
    }
    match Inputs::find(&args.input.input)? {
        Inputs::None => live::run(&args, global).await,
        Inputs::One(path) => recorded::run(&args, &path, global),
        Inputs::Several(paths) => several::run(&args, &paths, global),
    }
}
