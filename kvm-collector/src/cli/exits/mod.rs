//! `kvm-collector exits`.

mod args;
mod conflicts;
mod live;
mod recorded;
mod writer;

use std::process::ExitCode;

pub(super) use args::ExitsArgs;

use super::global::GlobalOptions;

pub(super) async fn run(args: ExitsArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    conflicts::check_options(&args)?;
    match &args.input.input {
        Some(path) => recorded::run(&args, path, global),
        None => live::run(&args, global).await,
    }
}
