//! `kvm-collector guest`.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::format::units;
use crate::guest::{
    Guest, GuestReport, GuestThreads, Kind, Mode, Plan, VcpuReport, VcpuTimeBreakdown,
};

/// Run a tiny guest that makes a known number of exits, and print the number.
///
/// Each vCPU makes N rounds of the kinds of --kind, in that order, plus two io exits, one first and
/// one last. With nested paging it also makes one page-fault exit per page that it runs on: one in
/// real mode (code), four in long mode (code and page tables). Apart from interrupts there are no
/// other exits, but two vCPUs that race on a page table may take the same page fault twice.
#[derive(Args, Clone, Debug)]
pub(super) struct GuestArgs {
    /// Do this in each round: io, io-read, cpuid, mmio, mmio-read, msr, msr-read, hlt, hypercall,
    /// page-fault, wbinvd, exception (wrmsr to a nonexistent MSR: #GP), cr, pvclock, dirty (write a
    /// page, read the dirty log); with interrupt controllers in the kernel: apic, apic-read, ipi
    /// (to itself), timer (with hlt), pit, irq (PIC), ioapic, msi
    #[arg(
        short,
        long,
        value_name = "KIND",
        value_delimiter = ',',
        default_value = "io,cpuid"
    )]
    kind: Vec<Kind>,

    /// Number of exits of each kind per vCPU
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    exits: u32,

    /// Processor mode of the guest: real (16 bits) or long (64 bits)
    #[arg(long, value_name = "MODE", default_value_t = Mode::Long)]
    mode: Mode,

    /// Number of VMs; all run in this process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    vms: u32,

    /// Number of vCPUs per VM
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    vcpus: u32,

    /// Sleep this long in each exit that user space handles (100us)
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    sleep: Option<Duration>,

    /// Run an empty loop of N iterations in each round, which adds guest time without an exit
    #[arg(long, value_name = "N", default_value_t = 0)]
    spin: u32,

    /// Set the APIC timer of kind `timer` to this time, which is how long its hlt lasts
    #[arg(long, value_name = "DURATION", default_value = "200us", value_parser = humantime::parse_duration)]
    timer: Duration,

    /// Pin vCPU threads to these CPUs, in round-robin order
    #[arg(long, value_name = "CPU", value_delimiter = ',')]
    cpu: Vec<u32>,

    /// Name of the VM in `list` and in reports. It is read from the command line, as for QEMU
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Print the process and thread ids, then wait for a line on standard input before the first exit
    #[arg(long)]
    wait_start: bool,

    /// Print one JSON object, one line per report
    #[arg(long)]
    json: bool,
}

/// The JSON object that is printed before the start.
#[derive(Serialize)]
struct Ready<'a> {
    ready: &'a GuestThreads,
}

/// The JSON object that is printed at the end.
#[derive(Serialize)]
struct Report<'a> {
    name: Option<&'a str>,
    #[serde(flatten)]
    made: &'a GuestReport,
}

/// Runs the command.
///
/// # Errors
/// If the guest cannot be created or does not run as planned.
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
        let roster = guest.threads();
        if args.json {
            write_json(out, &Ready { ready: &roster })?
        } else {
            write_ready(out, &roster)?
        }
        wait_for_line()?;
    }
    let made = guest.run().context("the guest failed")?;
    let report = Report {
        name: args.name.as_deref(),
        made: &made,
    };
    if args.json {
        write_json(out, &report)?
    } else {
        write_report(out, &report)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for a line on stdin. Fails at the end of stdin, so the guest ends together with the process that controls it.
fn wait_for_line() -> Result<()> {
    let read = io::stdin()
        .lock()
        .read_line(&mut String::new())
        .context("cannot read the line to start at")?;
    if read == 0 {
        bail!("standard input ended before the line to start at");
    }
    Ok(())
}

fn write_json(out: &mut impl Write, report: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, report).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn write_ready(out: &mut impl Write, roster: &GuestThreads) -> Result<()> {
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

fn write_report(out: &mut impl Write, report: &Report<'_>) -> Result<()> {
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
            write_vcpu(out, vcpu)?;
        }
    }
    Ok(out.flush()?)
}

fn write_vcpu(out: &mut impl Write, vcpu: &VcpuReport) -> Result<()> {
    writeln!(out, "  made             {}", format_counts(&vcpu.executed))?;
    match &vcpu.kvm_exits {
        Some(exits) => {
            let total: u64 = exits.values().sum();
            writeln!(
                out,
                "  VM exits         {}; total {total} ({} pages to run on)",
                format_counts(exits),
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
        format_counts(&vcpu.userspace_exits),
        vcpu.eintr
    )?;
    write_times(out, vcpu.time_breakdown)?;
    Ok(())
}

fn write_times(out: &mut impl Write, times: VcpuTimeBreakdown) -> Result<()> {
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

fn format_counts<K: std::fmt::Display>(counts: &std::collections::BTreeMap<K, u64>) -> String {
    counts
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect::<Vec<_>>()
        .join(", ")
}
