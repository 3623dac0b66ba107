//! `cargo xtask run`: builds the eBPF programs and the collector, and runs the collector.

use std::os::unix::process::CommandExt as _;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::{
    collector,
    process::{self, as_root},
};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Arguments of the collector
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

/// Builds the collector and replaces this process with it, so the collector has this process's signals,
/// terminal and exit status. Returns only if that fails.
pub(crate) fn run(args: &RunArgs) -> Result<std::process::ExitCode> {
    let mut collector = as_root(&collector::build()?);
    let err = collector.args(&args.args).exec();
    Err(anyhow!(err).context(format!(
        "cannot run {}",
        process::format_command(&collector)
    )))
}
