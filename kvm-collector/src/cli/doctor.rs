//! `kvm-collector doctor`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use super::{
    exits::ExitsArgs, record::RecordArgs, selection::TargetArgs, stat::StatArgs, top::TopArgs,
    trace::TraceArgs, tracefs::find_format,
};
use crate::doctor::{
    CommandCheck, CommandRequest, Facts, command_without_tracefs, diagnose, test_guest,
    try_command, write_text,
};
use crate::{source::LiveOptions, timing::Selection, tracefs::Tracefs};

/// Check whether this host is supported, and show how to fix problems
///
/// Runs the built-in guest for a moment to check that the events fire. Loads, attaches and detaches the
/// eBPF programs of each command, and reports which commands and options work. The exit code is 0 if at
/// least one command works.
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A measuring command, with the options that need other programs or maps.
struct TriedCommand {
    name: &'static str,
    options: &'static [&'static str],
    needs_exit_events: bool,
}

/// An option with a value is one string; the value follows a `=`.
const COMMANDS: [TriedCommand; 5] = [
    TriedCommand {
        name: "stat",
        options: &["--per-vm", BY_NAME],
        needs_exit_events: false,
    },
    TriedCommand {
        name: "exits",
        options: &["--causes", "--slow=1ms", "--preempt", BY_NAME],
        needs_exit_events: true,
    },
    TriedCommand {
        name: "top",
        options: &["--preempt", BY_NAME],
        needs_exit_events: true,
    },
    TriedCommand {
        name: "trace",
        options: &[BY_NAME],
        needs_exit_events: false,
    },
    TriedCommand {
        name: "record",
        options: &["--preempt", BY_NAME],
        needs_exit_events: false,
    },
];

const BY_NAME: &str = "--vm=*";

#[derive(Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: MeasuringCommand,
}

#[derive(Subcommand)]
enum MeasuringCommand {
    Stat(StatArgs),
    Exits(ExitsArgs),
    Top(TopArgs),
    Trace(TraceArgs),
    Record(RecordArgs),
}

/// Runs the command.
///
/// # Errors
/// When the output cannot be written. Problems of the host are not errors; they are reported in the output.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let facts = Facts::read(Path::new("/"));
    let fired = test_guest::run(facts.tracefs.as_ref().map(|tracefs| tracefs.path.as_path()));
    let diagnosis = diagnose(&facts, &fired, check_commands(&facts)?);
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

/// Tries all commands at the same time, because each spends most of its time waiting for the kernel.
fn check_commands(facts: &Facts) -> Result<Vec<CommandCheck>> {
    thread::scope(|scope| {
        let checks: Vec<_> = COMMANDS
            .iter()
            .map(|command| scope.spawn(|| command.check(facts)))
            .collect();
        let results = checks.into_iter().map(|check| match check.join() {
            Ok(result) => Ok(result),
            // The panic hook has printed the message.
            Err(_) => bail!("the thread that tries a command panicked"),
        });
        results.collect()
    })
}

impl TriedCommand {
    fn check(&self, facts: &Facts) -> CommandCheck {
        let readable = facts.tracefs.as_ref().filter(|tracefs| tracefs.readable);
        let Some(tracefs) = readable else {
            return command_without_tracefs(self.name, facts);
        };
        let tracefs = Tracefs::at(&tracefs.path);
        let request = |options: &[&str]| match facts.ids {
            Err(foreign) if options.contains(&BY_NAME) => Err(foreign.to_string()),
            _ => self
                .request(options, &tracefs)
                .map_err(|error| format!("{error:#}")),
        };
        let by_option = self
            .options
            .iter()
            .map(|option| (*option, request(&[option])));
        let request = CommandRequest {
            command: self.name,
            plain: request(&[]),
            with_all: request(self.options),
            by_option: by_option.collect(),
            needs_exit_events: self.needs_exit_events,
        };
        try_command(request, facts)
    }

    /// Returns what the command requests from the kernel with these options.
    fn request(&self, options: &[&str], tracefs: &Tracefs) -> Result<LiveOptions> {
        let line = ["kvm-collector", self.name]
            .into_iter()
            .chain(options.iter().copied());
        let selection = match options.contains(&BY_NAME) {
            true => TargetArgs::any_vm().for_recording()?,
            false => Selection::default(),
        };
        match CommandLine::try_parse_from(line)?.command {
            MeasuringCommand::Stat(args) => args.live_options(tracefs, selection),
            MeasuringCommand::Exits(args) => {
                let find = |system: &str, name: &str| find_format(tracefs, system, name);
                Ok(args.live_options(&args.timing_request(&find)?, selection))
            }
            MeasuringCommand::Top(args) => args.live_options(tracefs, selection),
            MeasuringCommand::Trace(args) => {
                args.live_options(tracefs, args.live_events(tracefs)?, selection)
            }
            MeasuringCommand::Record(args) => {
                args.live_options(tracefs, args.live_events(tracefs)?, selection)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_all_commands_are_accepted() {
        for command in &COMMANDS {
            let line = ["kvm-collector", command.name];
            let line = line.iter().chain(command.options);
            assert!(
                CommandLine::try_parse_from(line).is_ok(),
                "{}",
                command.name
            );
        }
    }
}
