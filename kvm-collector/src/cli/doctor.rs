//! `kvm-collector doctor`.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use super::{
    event_formats::EventFormats, exits::ExitsArgs, global::GlobalOptions, origin,
    output::stdout_width, record::RecordArgs, sandbox, selection::TargetArgs, stat::StatArgs,
    top::TopArgs, trace::TraceArgs,
};
use crate::doctor::{
    CommandCheck, Diagnosis, Facts, MeasuringCommand, Refusal, command_without_tracefs, diagnose,
    test_guest, try_command, write_text,
};
use crate::{
    format::json, host::namespaces::ForeignIds, source::LiveOptions, timing::Selection,
    tracefs::Tracefs, view::OutputHeader,
};

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

const COMMANDS: [MeasuringCommand; 5] = [
    MeasuringCommand {
        name: "stat",
        options: &["--per-vm", BY_NAME],
        needs_exit_events: false,
    },
    MeasuringCommand {
        name: "exits",
        options: &["--causes", "--slow=1ms", "--preempt", BY_NAME],
        needs_exit_events: true,
    },
    MeasuringCommand {
        name: "top",
        options: &["--preempt", BY_NAME],
        needs_exit_events: true,
    },
    MeasuringCommand {
        name: "trace",
        options: &[BY_NAME],
        needs_exit_events: false,
    },
    MeasuringCommand {
        name: "record",
        options: &["--preempt", BY_NAME],
        needs_exit_events: false,
    },
];

const BY_NAME: &str = "--vm=*";

#[derive(Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: CommandArgs,
}

#[derive(Subcommand)]
enum CommandArgs {
    Stat(StatArgs),
    Exits(ExitsArgs),
    Top(TopArgs),
    Trace(TraceArgs),
    Record(RecordArgs),
}

/// What `doctor --json` prints.
#[derive(Serialize)]
struct JsonOutput<'d> {
    #[serde(flatten)]
    header: OutputHeader,
    #[serde(flatten)]
    diagnosis: &'d Diagnosis,
}

/// Runs the command.
///
/// # Errors
/// When the output cannot be written. Problems of the host are not errors; they are reported in the output.
pub(super) fn run(args: &DoctorArgs, global: GlobalOptions) -> Result<ExitCode> {
    let facts = Facts::read(Path::new("/"));
    let fired = test_guest::run(facts.tracefs.as_ref().map(|tracefs| tracefs.path.as_path()));
    let commands = check_commands(&facts)?;
    let header = origin::header_of_host();
    // Last, because what is in force cannot be undone.
    let sandbox = global.sandbox.then(sandbox::enter_to_show);
    let diagnosis = diagnose(&facts, &fired, sandbox, commands);
    let out = &mut io::stdout().lock();
    if args.json {
        let output = JsonOutput {
            header,
            diagnosis: &diagnosis,
        };
        json::write_line(&output, out)?;
    } else {
        write_text(out, &diagnosis, stdout_width())?;
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
            .map(|command| scope.spawn(|| check(command, facts)))
            .collect();
        let results = checks.into_iter().map(|check| match check.join() {
            Ok(result) => Ok(result),
            // The panic hook has printed the message.
            Err(_) => bail!("the thread that tries a command panicked"),
        });
        results.collect()
    })
}

fn check(command: &MeasuringCommand, facts: &Facts) -> CommandCheck {
    let readable = facts.tracefs.as_ref().filter(|tracefs| tracefs.readable);
    let Some(tracefs) = readable else {
        return command_without_tracefs(command.name, facts);
    };
    let tracefs = Tracefs::at(&tracefs.path);
    let request = |options: &[&str]| {
        check_selection(options, facts.ids)?;
        request(command.name, options, &tracefs).map_err(|error| Refusal {
            error: format!("{error:#}"),
            advice: "`kvm-collector list events` shows which events this kernel has".to_owned(),
        })
    };
    try_command(command, &request, facts)
}

/// Checks that VMs can be selected by name, if the options do.
fn check_selection(options: &[&str], ids: Result<(), ForeignIds>) -> Result<(), Refusal> {
    match ids {
        Err(_) if options.contains(&BY_NAME) => Err(Refusal {
            error: "names of VMs cannot be looked up in /proc here".to_owned(),
            advice: "see pid namespace".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Returns what a command requests from the kernel with these options.
fn request(name: &str, options: &[&str], tracefs: &Tracefs) -> Result<LiveOptions> {
    let line = ["kvm-collector", name]
        .into_iter()
        .chain(options.iter().copied());
    let selection = match options.contains(&BY_NAME) {
        true => TargetArgs::any_vm().for_recording()?,
        false => Selection::default(),
    };
    match CommandLine::try_parse_from(line)?.command {
        CommandArgs::Stat(args) => args.live_options(tracefs, selection),
        CommandArgs::Exits(args) => {
            let timing = args.timing_request(&EventFormats::Kernel(tracefs))?;
            Ok(args.live_options(&timing, selection))
        }
        CommandArgs::Top(args) => args.live_options(tracefs, selection),
        CommandArgs::Trace(args) => {
            args.live_options(tracefs, args.live_events(tracefs)?, selection)
        }
        CommandArgs::Record(args) => {
            args.live_options(tracefs, args.live_events(tracefs)?, selection)
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

    #[test]
    fn a_selection_by_name_needs_the_ids_of_the_kernel() {
        let foreign = Err(ForeignIds::ChildNamespace);
        let refusal = check_selection(&["--per-vm", BY_NAME], foreign).unwrap_err();
        assert_eq!(refusal.advice, "see pid namespace");
        assert_eq!(check_selection(&["--per-vm"], foreign), Ok(()));
        assert_eq!(check_selection(&[BY_NAME], Ok(())), Ok(()));
    }
}
