//! Parses the command line, runs the command and sets the exit code.

use std::process::ExitCode;

use kvm_collector::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::from_command_line();
    cli.init_log();
    match cli::run(cli) {
        Ok(code) => code,
        Err(error) if cli::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => cli::report_error(&error),
    }
}
