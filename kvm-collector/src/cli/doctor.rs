//! `kvm-collector doctor`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::doctor::{Facts, diagnose, probe, write_text};

/// Check whether this host is supported, and show how to fix problems
///
/// Runs the built-in guest for a moment to check that the events fire. The exit code is 0 if the
/// collector works here.
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the output cannot be written. Problems of the host are not errors; they are reported in the output.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let facts = Facts::read(Path::new("/"));
    let fired = probe::run(facts.tracefs.as_ref().map(|tracefs| tracefs.path.as_path()));
    let diagnosis = diagnose(&facts, &fired);
    let out = &mut io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &diagnosis).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write_text(out, &diagnosis)?;
    }
    Ok(if diagnosis.usable {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
