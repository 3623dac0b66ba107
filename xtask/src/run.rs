//! `cargo xtask run`: builds both halves and becomes the collector.

use std::{ffi::OsStr, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Result, anyhow};
use clap::Args;

use crate::{collector, process};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The collector's arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    args: Vec<String>,
}

/// Never returns where all goes well: the collector takes this process over, with its signals, its terminal and its exit status.
pub(crate) fn run(args: &RunArgs) -> Result<std::process::ExitCode> {
    let mut collector = as_root(&collector::build()?);
    let err = collector.args(&args.args).exec();
    Err(anyhow!(err).context(format!("cannot run {}", process::show(&collector))))
}

/// `program`, by way of sudo for whoever is not root: loading BPF programs takes root's rights.
pub(crate) fn as_root(program: &Path) -> Command {
    if process::is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args([OsStr::new("--"), program.as_os_str()]);
    sudo
}
