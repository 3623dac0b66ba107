//! Items that several subcommands use: global options, the exit code for incomplete data, and the runtime.

use std::process::ExitCode;

use clap::ValueEnum;

/// Exit code if data is incomplete and `--strict` was given.
pub(super) const EXIT_INCOMPLETE: u8 = 3;

/// Value of `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Even if the output is not a terminal.
    Always,
    /// Not even on a terminal.
    Never,
}

/// Options of every subcommand.
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
