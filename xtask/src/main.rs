//! Developer commands: `cargo xtask COMMAND`. There is one file or folder per command.
//!
//! The commands install the packages that they need, if they run as root, and print their progress on stderr.

mod apt;
mod architecture;
mod bench;
mod bpf_linker;
mod build_ebpf;
mod cargo;
mod collector;
mod cross;
mod demo;
mod fuzz;
mod names;
mod process;
mod run;
mod soak;
mod test;
mod toolchain;
mod vm;
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
    /// Build the eBPF object and the collector, and run it as root
    Run(run::RunArgs),
    /// Show the collector's main commands on real KVM events
    Demo,
    Test(test::TestArgs),
    Bench(bench::BenchArgs),
    Soak(soak::SoakArgs),
    Fuzz(fuzz::FuzzArgs),
    Names(names::NamesArgs),
    /// Run a command or a shell in a disposable VM with KVM
    Vm(vm::command::VmArgs),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::BuildEbpf => build_ebpf::run().map(|()| ExitCode::SUCCESS),
        Command::Run(args) => run::run(&args),
        Command::Demo => demo::run(),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Fuzz(args) => fuzz::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Names(args) => names::run(&args),
        Command::Vm(args) => vm::command::run(args),
    };
    result.unwrap_or_else(|err| {
        eprintln!("xtask: {err:#}");
        ExitCode::FAILURE
    })
}
