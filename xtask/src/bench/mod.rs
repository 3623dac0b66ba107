//! `cargo xtask bench`: measures how much longer each VM exit takes with each tool.

mod budgets;
mod instructions;
mod overhead_document;
mod real_time;
mod tools;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Args;

use crate::{process::info, vm::Series};
use budgets::Budget;
use instructions::InstructionCosts;
use tools::{Group, Tool};

/// Measure the overhead of kvm-collector and of other tools
///
/// Counts how many more instructions an exit takes with each tool, in a VM with a clock that counts instructions. The results
/// are the same to 0.1 % on any machine. With --host, measures real time on this machine's KVM.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask bench                               a table for Linux 6.1, in two minutes
  cargo xtask bench --check                       fails if a command exceeds its budget
  cargo xtask bench --smp 8 --kernel 6.12         eight vCPUs that exit at the same time
  cargo xtask bench --kernel 6.1 --kernel 6.12 --write --json target/bench.json
  cargo xtask bench --host --write                real time, on this machine")]
pub(crate) struct BenchArgs {
    /// Kernel of the VM; can be given more than once
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Vec<Series>,
    /// Number of CPUs of the VM, and of vCPUs of the guest in it
    ///
    /// With more than one, the results are compared with those of a guest with one vCPU.
    #[arg(long, default_value_t = 1)]
    smp: u32,
    /// Measure real time on this machine
    #[arg(long, conflicts_with_all = ["smp", "check", "json"])]
    host: bool,
    /// Fail if a command exceeds its budget in xtask/budgets.json
    #[arg(long, conflicts_with = "smp")]
    check: bool,
    /// Write the tables to docs/overhead.md
    #[arg(long)]
    write: bool,
    /// Write the results to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl BenchArgs {
    /// Returns the command line that repeats the measurement.
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
        let text = real_time::run(&args.command(None))?;
        print!("{text}");
        if args.write {
            overhead_document::write("host", &text)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Only kvm-collector has budgets.
    let skips_other_tools = args.check && !args.write;
    let is_needed = |tool: &&Tool| !skips_other_tools || tool.group != Group::OtherTools;
    let tools: Vec<_> = tools::ALL.iter().filter(is_needed).copied().collect();
    let mut all = Vec::new();
    for &kernel in &args.kernel {
        let costs = instructions::run(kernel, args.smp, &tools)?;
        let text = overhead_document::format_table(&costs, &args.command(Some(kernel)))?;
        println!("{text}");
        if args.write {
            let smp = if args.smp == 1 {
                String::new()
            } else {
                format!(" smp {}", args.smp)
            };
            overhead_document::write(&format!("{}{smp}", kernel.name()), &text)?;
        }
        all.push(costs);
    }
    if let Some(path) = &args.json {
        overhead_document::write_json(&all, &args.command(None), path)?;
    }
    if args.check {
        return check(&all);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the budgets that are exceeded. Fails if there are any.
fn check(all: &[InstructionCosts]) -> Result<ExitCode> {
    let budgets = Budget::all()?;
    let exceeded: Vec<_> = all
        .iter()
        .flat_map(|costs| budgets.iter().filter_map(|budget| budget.check(costs)))
        .collect();
    for text in &exceeded {
        info!(
            "{text}: make the command cheaper, or change its budget and the reason in xtask/budgets.json"
        );
    }
    println!("{} of {} budgets exceeded", exceeded.len(), budgets.len());
    Ok(if exceeded.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
