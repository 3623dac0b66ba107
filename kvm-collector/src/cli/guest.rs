//! `kvm-collector guest`.

use std::io::{self, BufRead, Read as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::number::parse_number;
use super::{stop::parse_time, usage::bail_usage};
use crate::format::{json, units};
use crate::guest::{
    Guest, GuestReport, GuestThreads, Kind, Mode, Plan, VcpuReport, VcpuTimeBreakdown, help,
};
use crate::view::JsonLine;

#[derive(Args, Clone, Debug)]
#[command(
    about = "Run a tiny guest that makes a known number of exits, and print that number",
    long_about = help::GUEST
)]
pub(super) struct GuestArgs {
    #[arg(
        short,
        long,
        value_name = "KIND",
        value_delimiter = ',',
        default_values_t = Kind::DEFAULT,
        help = "Make these kinds of exits in each round",
        long_help = help::KINDS
    )]
    kind: Vec<Kind>,

    /// Number of exits of each kind per vCPU
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000, value_parser = parse_any_number)]
    exits: u32,

    #[arg(long, value_name = "MODE", default_value_t = Mode::default(), help = help::MODES)]
    mode: Mode,

    /// Number of VMs; all run in this process
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_vms)]
    vms: u32,

    /// Number of vCPUs per VM
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_vcpus)]
    vcpus: u32,

    /// Sleep this long in each exit to user space, such as 100us
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    sleep: Option<Duration>,

    /// Run an empty loop of N iterations in each round, to add guest time without exits
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_any_number)]
    spin: u32,

    #[arg(long, value_name = "TIME", value_parser = parse_time, help = help::TIMER)]
    timer: Option<Duration>,

    /// Pin vCPU threads to these CPUs, in round-robin order
    #[arg(long, value_name = "CPU", value_delimiter = ',', value_parser = parse_any_number)]
    cpu: Vec<u32>,

    /// Name of the VM in `list` and in reports
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Print the process and thread ids, then wait for a line on standard input before the first exit
    #[arg(long)]
    wait_start: bool,

    /// Print JSON instead of text, one object per line
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
    report: &'a GuestReport,
}

/// Time of the APIC timer if `--timer` is not given.
const DEFAULT_TIMER: Duration = Duration::from_micros(200);

fn parse_any_number(text: &str) -> Result<u32, String> {
    parse_number(text, 0..=u32::MAX)
}

fn parse_vms(text: &str) -> Result<u32, String> {
    parse_number(text, 1..=1000)
}

fn parse_vcpus(text: &str) -> Result<u32, String> {
    parse_number(text, 1..=256)
}

/// Runs the command.
///
/// # Errors
/// If the guest cannot be created or does not run as planned.
pub(super) fn run(args: GuestArgs) -> Result<ExitCode> {
    let timer_kind = Kind::WITH_TIMER;
    if args.timer.is_some() && !args.kind.contains(&timer_kind) {
        bail_usage!("--timer sets the timer of kind `{timer_kind}`: add {timer_kind} to --kind");
    }
    let plan = Plan {
        kinds: args.kind,
        exits: args.exits,
        mode: args.mode,
        vms: args.vms,
        vcpus: args.vcpus,
        sleep: args.sleep.unwrap_or_default(),
        spin: args.spin,
        timer: args.timer.unwrap_or(DEFAULT_TIMER),
        cpus: args.cpu,
    };
    let out = &mut io::stdout().lock();
    let guest = Guest::prepare(&plan).context("cannot create the guest")?;
    if args.wait_start {
        let threads = guest.threads();
        if args.json {
            write_json(out, &Ready { ready: &threads })?
        } else {
            write_ready(out, &threads)?
        }
        wait_for_line()?;
    }
    let guest_report = guest.run().context("the guest failed")?;
    let report = Report {
        name: args.name.as_deref(),
        report: &guest_report,
    };
    if args.json {
        write_json(out, &report)?
    } else {
        write_report(out, &report)?
    }
    Ok(ExitCode::SUCCESS)
}

/// Maximum length of the line that starts the guest; its text has no meaning.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Waits for a line on stdin. Fails at the end of stdin, so the guest ends together with the process that
/// controls it.
fn wait_for_line() -> Result<()> {
    let read = io::stdin()
        .lock()
        .take(MAX_LINE_BYTES)
        .skip_until(b'\n')
        .context("--wait-start: cannot read standard input")?;
    if read == 0 {
        bail!("--wait-start: standard input ended without a line");
    }
    Ok(())
}

fn write_json(out: &mut impl Write, report: &impl Serialize) -> Result<()> {
    json::write_line(&JsonLine::new(report), out)?;
    Ok(out.flush()?)
}

fn write_ready(out: &mut impl Write, threads: &GuestThreads) -> Result<()> {
    writeln!(out, "ready: pid {}; press Enter to start", threads.pid)?;
    for vm in &threads.vms {
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
        report.report.pid, report.report.mode
    )?;
    for vm in &report.report.vms {
        for vcpu in &vm.vcpus {
            writeln!(out, "vm {} vcpu {} tid {}", vm.vm, vcpu.vcpu, vcpu.tid)?;
            write_vcpu(out, vcpu)?;
        }
    }
    Ok(out.flush()?)
}

fn write_vcpu(out: &mut impl Write, vcpu: &VcpuReport) -> Result<()> {
    writeln!(out, "  executed         {}", format_counts(&vcpu.executed))?;
    match &vcpu.kvm_exits {
        Some(exits) => {
            let total: u64 = exits.values().sum();
            writeln!(
                out,
                "  VM exits         {}; total {total} (including first accesses to {} pages)",
                format_counts(exits),
                vcpu.boot_pages
            )?;
        }
        None => writeln!(
            out,
            "  VM exits         unknown: this CPU has neither vmx nor svm"
        )?,
    }
    let total = vcpu.userspace_exits_total;
    writeln!(
        out,
        "  userspace exits  {}; total {total}, {} interrupted (EINTR)",
        format_counts(&vcpu.userspace_exits),
        vcpu.eintr
    )?;
    write_times(out, vcpu.time_breakdown)?;
    Ok(())
}

fn write_times(out: &mut impl Write, breakdown: VcpuTimeBreakdown) -> Result<()> {
    let time = units::duration;
    write!(
        out,
        "  time             {}: {} on a CPU, {} in user space",
        time(breakdown.elapsed_ns),
        time(breakdown.cpu_ns),
        time(breakdown.userspace_ns)
    )?;
    if let Some(ns) = breakdown.runqueue_ns {
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
