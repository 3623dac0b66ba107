//! `guest`: the built-in guest from the command line.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::format::units;
use crate::guest::{Guest, Kind, Made, Mode, Plan, Roster, Times, VcpuMade};

/// Run a tiny guest that makes a known number of exits, and print how many it made.
///
/// Each vCPU makes N rounds of the kinds asked for, in the order given; one more `out` before them and one after them
/// are counted as io.
/// On hardware with nested paging it also takes a page-fault exit for each page it runs on: one in real mode (its
/// code), four in long mode (its code and page tables). Interrupts aside, nothing else leaves
/// the guest; only where two vCPUs race on one page table may the kernel take a page fault twice.
#[derive(Args, Clone, Debug)]
pub(super) struct GuestArgs {
    /// What to do in each round: io, io-read, cpuid, mmio, mmio-read, msr, msr-read, hlt, hypercall, page-fault, wbinvd,
    /// exception (wrmsr of no MSR: #GP), cr, pvclock, dirty (write, read the log); with interrupt controllers in the
    /// kernel: apic, apic-read, ipi (to itself), timer (and hlt), pit, irq (PIC), ioapic, msi
    #[arg(
        short,
        long,
        value_name = "KIND",
        value_delimiter = ',',
        default_value = "io,cpuid"
    )]
    kind: Vec<Kind>,

    /// How many exits of each kind each vCPU makes
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    exits: u32,

    /// Processor mode of the guest: real (16 bits) or long (64 bits)
    #[arg(long, value_name = "MODE", default_value_t = Mode::Long)]
    mode: Mode,

    /// How many VMs to run; they share this process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    vms: u32,

    /// How many vCPUs each VM has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    vcpus: u32,

    /// Sleep this long in every exit that user space handles, e.g. 100us
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    sleep: Option<Duration>,

    /// In each round, first go around an empty loop so many times: time in the guest, without an exit
    #[arg(long, value_name = "N", default_value_t = 0)]
    spin: u32,

    /// What `timer` sets the APIC's timer to, and so how long its hlt lasts
    #[arg(long, value_name = "DURATION", default_value = "200us", value_parser = humantime::parse_duration)]
    timer: Duration,

    /// Bind the vCPUs' threads to these CPUs, in turn
    #[arg(long, value_name = "CPU", value_delimiter = ',')]
    cpu: Vec<u32>,

    /// The name this VM goes by in `list` and wherever VMs are named (read from the command line, as QEMU's is)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Print the process and thread ids, then wait for a line on standard input before the first exit
    #[arg(long)]
    wait_start: bool,

    /// Print JSON, one line per report
    #[arg(long)]
    json: bool,
}

/// What is printed before the start.
#[derive(Serialize)]
struct Ready<'a> {
    ready: &'a Roster,
}

/// What is printed at the end.
#[derive(Serialize)]
struct Report<'a> {
    name: Option<&'a str>,
    #[serde(flatten)]
    made: &'a Made,
}

/// Runs the command.
///
/// # Errors
/// When the guest cannot be made or does not do what it should.
pub(super) fn run(args: GuestArgs) -> Result<ExitCode> {
    let plan = Plan {
        kinds: args.kind,
        exits: args.exits,
        mode: args.mode,
        vms: args.vms,
        vcpus: args.vcpus,
        sleep: args.sleep.unwrap_or_default(),
        spin: args.spin,
        timer: args.timer,
        cpus: args.cpu,
    };
    let out = &mut io::stdout().lock();
    let guest = Guest::prepare(&plan).context("cannot make the guest")?;
    if args.wait_start {
        let roster = guest.roster();
        if args.json {
            json(out, &Ready { ready: &roster })?
        } else {
            ready_text(out, &roster)?
        }
        wait_for_a_line()?;
    }
    let made = guest.run().context("the guest failed")?;
    let report = Report {
        name: args.name.as_deref(),
        made: &made,
    };
    if args.json {
        json(out, &report)?
    } else {
        report_text(out, &report)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Whoever holds the guest back may die: then the input ends, and so does the guest.
fn wait_for_a_line() -> Result<()> {
    let read = io::stdin()
        .lock()
        .read_line(&mut String::new())
        .context("cannot read the line to start at")?;
    if read == 0 {
        bail!("standard input ended before the line to start at");
    }
    Ok(())
}

fn json(out: &mut impl Write, report: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, report).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn ready_text(out: &mut impl Write, roster: &Roster) -> Result<()> {
    writeln!(
        out,
        "ready: pid {}; a line on standard input starts it",
        roster.pid
    )?;
    for vm in &roster.vms {
        for vcpu in &vm.vcpus {
            writeln!(out, "vm {} vcpu {} tid {}", vm.vm, vcpu.vcpu, vcpu.tid)?;
        }
    }
    Ok(out.flush()?)
}

fn report_text(out: &mut impl Write, report: &Report<'_>) -> Result<()> {
    let name = report
        .name
        .map(|name| format!(" {name}"))
        .unwrap_or_default();
    writeln!(
        out,
        "guest{name}: pid {}, {} mode",
        report.made.pid, report.made.mode
    )?;
    for vm in &report.made.vms {
        for vcpu in &vm.vcpus {
            writeln!(out, "vm {} vcpu {} tid {}", vm.vm, vcpu.vcpu, vcpu.tid)?;
            vcpu_text(out, vcpu)?;
        }
    }
    Ok(out.flush()?)
}

fn vcpu_text(out: &mut impl Write, vcpu: &VcpuMade) -> Result<()> {
    writeln!(out, "  made             {}", counts(&vcpu.made))?;
    match &vcpu.kvm_exits {
        Some(exits) => {
            let total: u64 = exits.values().sum();
            writeln!(
                out,
                "  VM exits         {}; total {total} ({} pages to run on)",
                counts(exits),
                vcpu.boot_pages
            )?;
        }
        None => writeln!(
            out,
            "  VM exits         not known: this processor has no vmx or svm"
        )?,
    }
    let total = vcpu.userspace_exits_total;
    writeln!(
        out,
        "  to user space    {}; total {total}, {} interrupted",
        counts(&vcpu.userspace_exits),
        vcpu.eintr
    )?;
    times_text(out, vcpu.times)?;
    Ok(())
}

fn times_text(out: &mut impl Write, times: Times) -> Result<()> {
    let time = units::duration;
    write!(
        out,
        "  time             {}: {} on a CPU, {} in user space",
        time(times.elapsed_ns),
        time(times.cpu_ns),
        time(times.userspace_ns)
    )?;
    if let Some(ns) = times.runqueue_ns {
        write!(out, ", {} waiting for a CPU", time(ns))?;
    }
    Ok(writeln!(out)?)
}

fn counts<K: std::fmt::Display>(counts: &std::collections::BTreeMap<K, u64>) -> String {
    counts
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect::<Vec<_>>()
        .join(", ")
}
