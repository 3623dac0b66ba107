//! What people type: one file per subcommand, wiring only.

mod baseline;
mod convert;
mod doctor;
mod ending;
mod exits;
mod guest;
mod list;
mod output;
mod playback;
mod record;
mod selection;
mod size;
mod stat;
mod timing;
mod top;
mod trace;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

/// Exit code: the numbers are incomplete, and `--strict` was given.
const INCOMPLETE: u8 = 3;

/// See what your VMs make the hypervisor do: how often, why, and for how long.
///
/// Counts, times and traces the kvm tracepoints with eBPF. Times are in nanoseconds of
/// CLOCK_MONOTONIC. Numbers are exact, or the report says what is missing from them.
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

    /// Say more on stderr; -vv adds the kernel half's own diagnostics
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
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

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What holds for every subcommand.
#[derive(Debug, Clone, Copy)]
struct Common {
    color: Color,
    quiet: bool,
    /// The kernel half's own diagnostics are wanted.
    kernel_log: bool,
}

impl Cli {
    /// Sends the log to stderr, as much of it as was asked for.
    pub fn init_log(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => log::LevelFilter::Error,
            (false, 0) => log::LevelFilter::Warn,
            (false, 1) => log::LevelFilter::Info,
            (false, 2) => log::LevelFilter::Debug,
            (false, _) => log::LevelFilter::Trace,
        };
        env_logger::Builder::new()
            .filter_level(level)
            // aya warns of what is no fault: a limit on locked memory that need not be raised.
            .filter_module("aya", level.min(log::LevelFilter::Error))
            .format(|out, record| {
                use std::io::Write as _;
                let level = record.level().as_str().to_ascii_lowercase();
                writeln!(out, "kvm-collector: {level}: {}", record.args())
            })
            .init();
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it, in words for the user.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let common = Common {
        color: cli.color,
        quiet: cli.quiet,
        kernel_log: cli.verbose >= 2,
    };
    match cli.command {
        Command::Stat(args) => asynchronously(stat::run(args, common)),
        Command::Exits(args) => asynchronously(exits::run(args, common)),
        Command::Trace(args) => asynchronously(trace::run(args, common)),
        Command::Top(args) => top::run(args, common),
        Command::Record(args) => asynchronously(record::run(args, common)),
        Command::Convert(args) => convert::run(&args, common),
        Command::List(args) => list::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Guest(args) => guest::run(args),
    }
}

/// One thread is enough: the work is to wait.
fn asynchronously(
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

/// Did the reader of our output go away? That is its right, and no failure.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}
