//! `kvm-collector convert`.

mod html;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, ValueEnum};

use super::{
    output,
    selection::{Events, Target},
};

/// Turn a recording into something other programs open
///
/// html is a report for people: one page that needs no network, with where the time went, histograms, a timeline
/// and the tables, to look at in any browser or to send to somebody.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kvm-collector convert -i kvm.data --to html -o kvm.html
  kvm-collector convert -i kvm.data --to html --vm 'web-*' -o web.html")]
pub(super) struct ConvertArgs {
    #[command(flatten)]
    events: Events,
    #[command(flatten)]
    target: Target,

    /// The recording, of `kvm-collector record` or `perf record`; - is stdin
    #[arg(short, long, value_name = "FILE", help_heading = "Selection")]
    input: PathBuf,

    /// Into what
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    to: Into,

    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Into {
    /// A page for browsers
    Html,
}

pub(super) fn run(args: &ConvertArgs) -> anyhow::Result<ExitCode> {
    let out = || output::open(args.output.as_ref());
    match args.to {
        Into::Html => html::run(args, out)?,
    }
    Ok(ExitCode::SUCCESS)
}
