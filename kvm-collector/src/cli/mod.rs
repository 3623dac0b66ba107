//! The command line: parses arguments and runs the subcommand. Each subcommand has a module of its
//! own; the other modules have shared options.

mod baseline;
mod command_line;
mod convert;
mod doctor;
mod event_formats;
mod event_stream;
mod exits;
mod given_time;
mod global;
mod guest;
mod inputs;
mod list;
mod locale;
mod named_output;
mod no_match;
mod number;
mod origin;
mod output;
mod record;
mod recording;
mod sandbox;
mod selection;
mod several;
mod size;
mod stat;
mod stop;
mod target_format;
mod text_heading;
mod time_range;
mod timing;
mod tips;
mod top;
mod trace;
mod tracefs;
mod usage;
mod warnings;

use std::{error::Error, io, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{
    bounds::bound_message,
    host::vm_lister::{self, Listing},
    outside_text::OutsideText,
    probe::ProbeError,
    session::{print_message, write_stderr},
};
use global::{GlobalArgs, GlobalOptions, block_on};
use sandbox::RecordingFiles;

/// Count, time and trace VM exits and other KVM events with eBPF.
///
/// Shows how often VMs exit to the hypervisor, for which reasons, and how long that takes. Counts are
/// exact unless the report lists lost events.
///
/// Exit codes: 0 success, 1 failure, 2 error in the command line (an option or value that is invalid,
/// does not fit to the others, or names something that does not exist), 3 incomplete data (with
/// --strict).
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    global: GlobalArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Stat(stat::StatArgs),
    Exits(exits::ExitsArgs),
    Trace(trace::TraceArgs),
    Top(top::TopArgs),
    Record(record::RecordArgs),
    Convert(convert::ConvertArgs),
    List(list::ListArgs),
    Doctor(doctor::DoctorArgs),
    Guest(guest::GuestArgs),
}

impl Command {
    /// Returns the files of a command that reads recordings; `None` if it does not.
    fn recording_files(&self) -> Option<RecordingFiles> {
        let files = match self {
            Self::Stat(args) => args.files(),
            Self::Exits(args) => args.files(),
            Self::Trace(args) => args.files(),
            Self::Top(args) => args.files(),
            Self::Convert(args) => args.files(),
            Self::List(args) => args.files(),
            Self::Record(_) | Self::Doctor(_) | Self::Guest(_) => return None,
        };
        (!files.inputs.is_empty()).then_some(files)
    }
}

impl Cli {
    /// Sets up logging to stderr at the level of `--verbose` and `--quiet`.
    pub fn init_log(&self) {
        let level = match (self.global.quiet, self.global.verbose) {
            (true, _) => log::LevelFilter::Error,
            (false, 0) => log::LevelFilter::Warn,
            (false, 1) => log::LevelFilter::Info,
            (false, 2) => log::LevelFilter::Debug,
            (false, _) => log::LevelFilter::Trace,
        };
        env_logger::Builder::new()
            .filter_level(level)
            // aya warns that it cannot raise the limit on locked memory, which newer kernels do not need.
            .filter_module("aya", level.min(log::LevelFilter::Error))
            .format(|out, record| {
                use std::io::Write as _;
                let level = record.level().as_str().to_ascii_lowercase();
                let message = record.args().to_string();
                let message = bound_message(&message);
                let message = OutsideText::new(&*message);
                writeln!(out, "kvm-collector: {level}: {message}")
            })
            .init();
    }
}

impl Command {
    /// Returns whether the command lists VMs when its programs are attached: to show those without exits, or to say why
    /// there were no events.
    fn lists_vms_later(&self) -> bool {
        match self {
            Self::Stat(args) => args.input.is_live(),
            Self::Exits(args) => args.input.is_live(),
            Self::Trace(args) => args.input.is_live(),
            Self::Top(args) => args.input.is_none(),
            Self::Record(_) => true,
            Self::Convert(_) | Self::List(_) | Self::Doctor(_) | Self::Guest(_) => false,
        }
    }
}

/// Starts the process that lists VMs, unless this process keeps its privileges. Call it before there are other threads and open
/// files.
fn start_vm_lister(global: GlobalOptions) {
    let listing = match global.sandbox {
        true => Listing::Separate,
        false => Listing::InProcess,
    };
    if let Err(error) = vm_lister::start_shared(listing) {
        log::warn!("cannot start the process that lists VMs, so this process lists them: {error}");
    }
}

/// Runs the command.
///
/// # Errors
/// When the command fails. The message is for the user.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = GlobalOptions {
        color: cli.global.color,
        quiet: cli.global.quiet,
        sandbox: !cli.global.no_sandbox,
        has_screen: matches!(cli.command, Command::Top(_)),
        ebpf_log: cli.global.verbose >= 2,
    };
    if cli.command.lists_vms_later() {
        start_vm_lister(global);
    }
    if let Some(files) = cli.command.recording_files() {
        sandbox::enter_to_read(files, global);
    }
    let result = match cli.command {
        Command::Stat(args) => block_on(stat::run(args, global)),
        Command::Exits(args) => block_on(exits::run(args, global)),
        Command::Trace(args) => block_on(trace::run(args, global)),
        Command::Top(args) => top::run(args, global),
        Command::Record(args) => block_on(record::run(args, global)),
        Command::Convert(args) => convert::run(args, global),
        Command::List(args) => list::run(&args),
        Command::Doctor(args) => doctor::run(&args, global),
        Command::Guest(args) => guest::run(args),
    };
    vm_lister::end_shared();
    result
}

/// Prints an error. Returns the exit code: 2 if the command line is the cause, otherwise 1.
#[must_use]
pub fn report_error(error: &anyhow::Error) -> ExitCode {
    let text = format!("{error:#}");
    if error.chain().any(|cause| cause.is::<ProbeError>()) {
        // The kernel's log of a rejected program has many lines.
        write_stderr("kvm-collector: ");
        for line in text.lines() {
            write_stderr(format_args!("{}\n", OutsideText::new(line)));
        }
    } else {
        print_message(&text);
    }
    match usage::is_usage_error(error) {
        true => ExitCode::from(usage::EXIT_USAGE),
        false => ExitCode::FAILURE,
    }
}

/// Returns whether an error is a closed pipe. It means that the reader of the output has ended, which
/// is not a failure.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(is_broken_pipe)
}

/// Returns whether an error is a broken pipe, or contains one that is not its source.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The error of a library can be in that of the standard library, as that of CSV is.
        let inner = error.get_ref().map(|it| it as &(dyn Error + 'static));
        return error.kind() == io::ErrorKind::BrokenPipe || inner.is_some_and(is_broken_pipe);
    }
    if let Some(error) = error.downcast_ref::<::csv::Error>() {
        return matches!(error.kind(), ::csv::ErrorKind::Io(error) if is_broken_pipe(error));
    }
    let json = error.downcast_ref::<serde_json::Error>();
    json.and_then(serde_json::Error::io_error_kind) == Some(io::ErrorKind::BrokenPipe)
}
