//! Items that several subcommands use: global options, the exit code for incomplete data, and the runtime.

use std::process::ExitCode;

use clap::{ArgAction, Args, ValueEnum};

/// Exit code if data is incomplete and `--strict` was given.
pub(super) const EXIT_INCOMPLETE: u8 = 3;

/// Value of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    Auto,
    /// Even if the output is not a terminal.
    Always,
    /// Not even on a terminal.
    Never,
}

/// Options of every subcommand, as they are given.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct GlobalArgs {
    /// Print more on stderr; -vv adds log messages from the eBPF programs
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,

    /// Print only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,

    /// Choose when to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(super) color: Color,

    /// Keep all privileges, for debugging
    ///
    /// Otherwise the process drops the capabilities that it does not need any more, and restricts its files and system calls.
    #[arg(long, global = true)]
    pub(super) no_sandbox: bool,
}

/// What the options of every subcommand mean for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct GlobalOptions {
    pub(super) color: Color,
    pub(super) quiet: bool,
    /// Restrict the process to what the command needs.
    pub(super) sandbox: bool,
    /// The command has a screen, and Ctrl-Z stops its process group.
    pub(super) has_screen: bool,
    /// Log messages of the eBPF programs are requested.
    pub(super) ebpf_log: bool,
}

/// Runs a command on a single-threaded runtime. One thread is enough, because the command mostly waits.
pub(super) fn block_on(
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}
