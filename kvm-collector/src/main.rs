//! kvm-collector
use std::process::ExitCode;

use clap::Parser;
use kvm_collector::cli;

#[derive(Parser)]
enum Command {
    Guest(cli::guest::GuestArgs),
    Doctor(cli::doctor::DoctorArgs),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Guest(args) => cli::guest::run(args),
        Command::Doctor(args) => cli::doctor::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("kvm-collector: {error:#}");
        ExitCode::FAILURE
    })
}
