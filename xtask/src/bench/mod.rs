//! `cargo xtask bench`: what watching costs.

mod budgets;
mod counted;
mod document;
mod host;
mod watchers;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{process::say, vm::Series};
use budgets::Budget;
use counted::Counted;
use watchers::{Group, Watcher};

/// Measure what watching costs, beside what people would use instead
///
/// In a VM whose clock counts instructions, a guest's exits take the same time on any machine, to 0.1 %: so many
/// instructions more with each of those who watch. With --host, in real time, on this machine's own KVM.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench                               a table, of Linux 6.1; two minutes
  cargo xtask bench --check                       fails if anything costs more than xtask/budgets.json says
  cargo xtask bench --smp 8 --kernel 6.12         eight vCPUs exiting at once
  cargo xtask bench --kernel 6.1 --kernel 6.12 --write --json target/bench.json
  cargo xtask bench --host --write                in real time, on this machine")]
pub(crate) struct BenchArgs {
    /// The VM's kernel; may be given twice
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Vec<Series>,
    /// How many CPUs the VM has, and vCPUs the guest in it; if more than one, compared with a guest of one
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// On this machine, in real time
    #[arg(long, conflicts_with_all = ["smp", "check", "json"])]
    host: bool,
    /// Fail if anything is over its budget
    #[arg(long, conflicts_with = "smp")]
    check: bool,
    /// Put the tables into docs/overhead.md
    #[arg(long)]
    write: bool,
    /// Write the results to this file, for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl BenchArgs {
    /// As it can be typed again.
    fn command(&self, kernel: Option<Series>) -> String {
        let mut command = "cargo xtask bench".to_owned();
        if self.host {
            command += " --host";
        }
        if let Some(kernel) = kernel {
            command += &format!(" --kernel {}", kernel.name());
        }
        if self.smp != 1 {
            command += &format!(" --smp {}", self.smp);
        }
        command
    }
}

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    if args.host {
        let text = host::run(&args.command(None))?;
        print!("{text}");
        if args.write {
            document::write("host", &text)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Budgets are of ours alone.
    let ours_alone = args.check && !args.write;
    let is_needed = |it: &&Watcher| !ours_alone || it.group != Group::Others;
    let watchers: Vec<_> = watchers::ALL.iter().filter(is_needed).copied().collect();
    let mut all = Vec::new();
    for &kernel in &args.kernel {
        let counted = counted::run(kernel, args.smp, &watchers)?;
        let text = document::table(&counted, &args.command(Some(kernel)))?;
        println!("{text}");
        if args.write {
            let smp = if args.smp == 1 {
                String::new()
            } else {
                format!(" smp {}", args.smp)
            };
            document::write(&format!("{}{smp}", kernel.name()), &text)?;
        }
        all.push(counted);
    }
    if let Some(path) = &args.json {
        document::to_json(&all, &args.command(None), path)?;
    }
    if args.check {
        return check(&all);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is over its budget is said.
fn check(all: &[Counted]) -> Result<ExitCode> {
    let budgets = Budget::all()?;
    let exceeded: Vec<_> = all
        .iter()
        .flat_map(|counted| budgets.iter().filter_map(|it| it.exceeded(counted)))
        .collect();
    for text in &exceeded {
        say!("{text}: make it cheaper, or say in xtask/budgets.json why it is worth that");
    }
    println!("{} of {} budgets exceeded", exceeded.len(), budgets.len());
    Ok(if exceeded.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
