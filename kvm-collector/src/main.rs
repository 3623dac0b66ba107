//! kvm-collector
use std::process::ExitCode;

use clap::Parser;
use kvm_collector::cli;

#[derive(Parser)]
enum Command {
    Guest(cli::guest::GuestArgs),
}

fn main() -> ExitCode {
    let Command::Guest(args) = Command::parse();
    cli::guest::run(args).unwrap_or_else(|error| {
        eprintln!("kvm-collector: {error:#}");
        ExitCode::FAILURE
    })
}
