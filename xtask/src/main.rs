//! The workshop: everything that is done to the collector but is not part of it.
//!
//! `cargo xtask COMMAND`, one file per command. The commands install what they need where they may, and say what they do on stderr.

mod apt;
mod bench;
mod bpf_linker;
mod build_ebpf;
mod cargo;
mod collector;
mod demo;
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
    /// Build both halves and run the collector, as root
    Run(run::RunArgs),
    /// Show the collector's main commands on real KVM events
    Demo,
    /// Run all tests: here, and in VMs with a real kvm_amd
    Test(test::TestArgs),
    /// Measure what watching costs, beside what people would use instead
    Bench(bench::BenchArgs),
    Soak(soak::SoakArgs),
    Names(names::NamesArgs),
    /// Run a command, or a shell, in a disposable VM with a real kvm_amd
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
        Command::Names(args) => names::run(&args),
        Command::Vm(args) => vm::command::run(args),
    };
    result.unwrap_or_else(|err| {
        eprintln!("xtask: {err:#}");
        ExitCode::FAILURE
    })
}
