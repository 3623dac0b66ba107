//! `cargo xtask bench`: what watching costs.

mod counted;
mod watchers;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::vm::Series;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The VM's kernel
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Series,
    /// How many CPUs the VM has, and vCPUs the guest in it
    #[arg(long, default_value_t = 1)]
    smp: u32,
}

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let counted = counted::run(args.kernel, args.smp)?;
    println!("Linux {}; {}", counted.kernel, counted.versions.join("; "));
    let pair = counted.per_exit["empty classic pair"];
    for watcher in watchers::ALL {
        let own = counted.per_exit[watcher.name];
        println!(
            "{:>9.1}  {:>6.2}x  {:?}  {}",
            own,
            own / pair,
            watcher.group,
            watcher.name
        );
    }
    Ok(ExitCode::SUCCESS)
}
