//! `kvm-collector exits`.

mod args;
mod conflicts;
mod live;
mod recorded;
mod several;
mod writer;

use std::process::ExitCode;

pub(super) use args::ExitsArgs;

use super::{global::GlobalOptions, inputs::Inputs};

pub(super) async fn run(args: ExitsArgs, global: GlobalOptions) -> anyhow::Result<ExitCode> {
    let args = args.with_each_value_once();
    conflicts::check_options(&args)?;
    if args.is_by_host() {
        args.check_without_baseline()?;
    }
    match args.input.find()? {
        Inputs::None => live::run(&args, global).await,
        Inputs::One(path) => recorded::run(&args, &path, global),
        Inputs::Several(paths) => several::run(&args, &paths, global),
    }
}
