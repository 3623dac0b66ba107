//! `kvm-collector exits`.

mod args;
mod live;
mod recorded;
mod writer;

use std::process::ExitCode;

use anyhow::bail;

pub(super) use args::ExitsArgs;

use super::{global::GlobalOptions, output::OutputFormat};
use crate::model::VMEXIT;

pub(super) async fn run(args: ExitsArgs, common: GlobalOptions) -> anyhow::Result<ExitCode> {
    if args.slow.is_some() && args.output.format() == OutputFormat::Csv {
        bail!("--slow has no place in CSV, whose lines all have the same columns: give --json");
    }
    if !args.reasons.is_empty() && args.kind != VMEXIT {
        bail!(
            "--reason chooses among VM exits' reasons: leave out --kind {}",
            args.kind
        );
    }
    match &args.input.input {
        Some(path) => recorded::run(&args, path, common),
        None => live::run(&args, common).await,
    }
}
