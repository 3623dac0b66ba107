//! `doctor`: what this host allows, what it does not, and what to do about it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::doctor::{Facts, examine, probe, write_text};

/// Look at what this host allows, what it does not, and what to do about it.
///
/// Runs the built-in guest for a moment to see whether the events really fire. Exit code 0 if the collector can work.
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Only when the output cannot be written: what is wrong with the host is the output.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let facts = Facts::read(Path::new("/"));
    let fired = probe::run(facts.tracefs.as_ref().map(|tracefs| tracefs.path.as_path()));
    let diagnosis = examine(&facts, &fired);
    let out = &mut io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &diagnosis).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write_text(out, &diagnosis)?;
    }
    Ok(if diagnosis.works() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
