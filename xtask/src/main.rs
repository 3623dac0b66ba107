//! The workshop: everything that is done to the collector but is not part of it.
//!
//! `cargo xtask COMMAND`, one file per command. The commands install what they need where they may, and say what they do on stderr.

mod apt;
mod bpf_linker;
mod build_ebpf;
mod process;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Build, run, test and show kvm-collector"
)]
enum Command {
    /// Build the eBPF object that the collector embeds
    BuildEbpf,
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::BuildEbpf => build_ebpf::run().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|err| {
        eprintln!("xtask: {err:#}");
        ExitCode::FAILURE
    })
}
