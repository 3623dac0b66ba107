//! `kvm-collector exits`.

mod args;
mod live;
mod recorded;
mod writer;

use std::process::ExitCode;

pub(super) use args::ExitsArgs;

use super::{global::GlobalOptions, output::OutputFormat, usage::bail_usage};
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
    match &args.input.input {
        Some(path) => recorded::run(&args, path, global),
        None => live::run(&args, global).await,
    }
}
