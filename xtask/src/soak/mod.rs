//! `cargo xtask soak`: runs `stat`, `exits`, `trace` and `record` for a long time while guests exit at full speed. The counts must
//! equal those of the guests, and memory, open files and maps must not grow.

mod guests;
mod json;
mod resources;
mod tool;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    architecture::Architecture,
    collector,
    process::{info, is_root},
    vm::{PreparedVm, Series, Vm},
};
use guests::{GuestTotals, Guests};
use resources::Growth;
use tool::{EventCounts, Tool};

/// Maximum size of a recording: small, so that it is rotated often.
const MAX_FILE_SIZE: &str = "16M";

/// Run the collector with busy guests for a long time, and fail if a count is wrong or memory grows
///
/// `stat`, `exits`, `trace` and `record` run at the same time, while built-in guests exit at full speed, one guest after the
/// other. At the end, the counts of each command (with its lost events) must equal those of the guests. The memory, open
/// files and maps of the commands are sampled. After a warm-up of a tenth of the time (15 s or more), memory may grow by at
/// most 2 MiB (10 MiB for `trace` and `record`), and open files and maps must not grow. The exit code is 1 if a check fails.
/// If kvm_exit does not fire on this host, `exits` counts port accesses instead.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo cargo xtask soak                          ten minutes, on this host
  sudo cargo xtask soak --duration 20s           a short check that everything works
  cargo xtask soak --kernel 6.1 --duration 5m    in a VM with kvm_amd: needs neither root nor KVM")]
pub(crate) struct SoakArgs {
    /// Duration (20s, 10m, 2h). The last guest finishes its exits, so the run takes a little longer
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// Run in a VM with this kernel instead of on this host
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// Use this collector instead of building one
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    collector: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    units
        .iter()
        .find_map(|(unit, seconds)| {
            text.strip_suffix(unit)?
                .parse()
                .ok()
                .map(|n: u32| (n, *seconds))
        })
        .map(|(n, seconds)| Duration::from_secs(u64::from(n) * seconds))
        .filter(|duration| *duration >= Duration::from_secs(20))
        .ok_or_else(|| "must be at least 20 s, for example 20s, 10m or 2h".into())
}

pub(crate) fn run(args: &SoakArgs) -> Result<ExitCode> {
    if let Some(kernel) = args.kernel {
        return in_vm(kernel, args.duration);
    }
    if !is_root() {
        bail!("loading eBPF programs needs root: `sudo cargo xtask soak`");
    }
    let collector = match &args.collector {
        Some(file) => file.clone(),
        None => collector::build()?,
    };
    let folder = TempFolder::new()?;
    soak(&collector, args.duration, &folder.0)
}

/// Runs this command in a VM.
fn in_vm(kernel: Series, duration: Duration) -> Result<ExitCode> {
    const XTASK_IN_VM: &str = "/bin/xtask";
    let mut vm = Vm::new(kernel)
        .with_file(
            collector::build_static(Architecture::Amd64)?.collector,
            collector::PATH_IN_VM,
        )
        .with_file(collector::build_xtask_static()?, XTASK_IN_VM);
    // Time for the boot and for the last guest.
    vm.timeout = duration * 2 + Duration::from_secs(300);
    let seconds = format!("{}s", duration.as_secs());
    let words = [
        XTASK_IN_VM,
        "soak",
        "--duration",
        &seconds,
        "--collector",
        collector::PATH_IN_VM,
    ];
    info!("Linux {} with kvm_amd, in a VM", kernel.name());
    let vm = PreparedVm::fetch(vm)?;
    let code = vm.run(&words.map(str::to_owned), &mut io::stdout())?;
    Ok(ExitCode::from(code))
}

/// A temporary folder for recordings. Dropping it deletes the folder.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("kvm-collector-soak-{}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn soak(collector: &Path, duration: Duration, folder: &Path) -> Result<ExitCode> {
    let exits_fire = collector::host_reports_exits(collector);
    let mut guests = Guests::prepare(collector, duration)?;
    let recording = folder.join("kvm.data").display().to_string();
    let mut exits = vec!["exits", "--json", "-I", "1s"];
    if !exits_fire {
        info!("kvm_exit does not fire here: `exits` counts port accesses instead");
        exits.extend(["--kind", "pio"]);
    }
    let commands = [
        vec!["stat", "--json", "-I", "1s"],
        exits,
        vec!["trace", "-o", "/dev/null"],
        vec![
            "record",
            "-o",
            &recording,
            "--max-size",
            MAX_FILE_SIZE,
            "--rotate",
            "2",
        ],
    ];
    // Exclude other VMs on this host.
    let pids = guests.pids();
    let mut tools = commands
        .iter()
        .map(|args| Tool::start(collector, args, &pids))
        .collect::<Result<Vec<_>>>()?;
    info!(
        "all commands are running; this takes {} s plus the time of the last guest",
        duration.as_secs()
    );
    let begin = Instant::now();
    while begin.elapsed() < duration && guests.start_next()? {
        while !guests.is_done()? {
            tools
                .iter_mut()
                .try_for_each(|tool| tool.sample(begin.elapsed()))?;
            thread::sleep(Duration::from_millis(200));
        }
    }
    let elapsed = begin.elapsed();
    let mut results = Vec::new();
    for tool in tools {
        results.push(tool.finish()?);
    }
    let totals = guests.into_totals();
    let [stat, exits, trace, record] =
        <[_; 4]>::try_from(results).map_err(|_| anyhow::anyhow!("four tools ran"))?;
    let all = tool::total_events(&stat.report()?)?;
    let exits_row = if exits_fire {
        let counts = tool::exit_counts(&exits, &totals.vm_exits)?;
        Row::new(
            "exits",
            counts,
            totals.vm_exits.values().sum(),
            exits.growth,
        )
    } else {
        Row::new(
            "exits",
            tool::port_access_counts(&exits)?,
            totals.port_accesses,
            exits.growth,
        )
    };
    let rows = [
        Row::new(
            "stat",
            tool::userspace_exit_counts(&stat)?,
            totals.userspace_exits,
            stat.growth,
        ),
        exits_row,
        Row::new(
            "trace",
            tool::summary_counts(&trace, "printed")?,
            all,
            trace.growth,
        ),
        Row::new(
            "record",
            tool::summary_counts(&record, "recorded")?,
            all,
            record.growth,
        ),
    ];
    Ok(report(&rows, &totals, elapsed))
}

/// Result of one tool and the expected count.
struct Row {
    name: &'static str,
    counts: EventCounts,
    expected: u64,
    growth: Growth,
}

impl Row {
    fn new(name: &'static str, counts: EventCounts, expected: u64, growth: Growth) -> Self {
        Self {
            name,
            counts,
            expected,
            growth,
        }
    }

    /// Describes each check that failed.
    fn violations(&self) -> Vec<String> {
        let mut violations = self
            .growth
            .violations(matches!(self.name, "trace" | "record"));
        let EventCounts { shown, lost } = self.counts;
        if shown + lost != self.expected {
            violations.push(format!(
                "{shown} shown and {lost} lost events, but {} occurred",
                self.expected
            ));
        }
        violations
    }
}

/// Prints the table and the failed checks.
fn report(rows: &[Row], totals: &GuestTotals, elapsed: Duration) -> ExitCode {
    println!(
        "{} guests made {} exits to user space in {} s",
        totals.guests,
        totals.userspace_exits,
        elapsed.as_secs()
    );
    println!(
        "{:8}{:>14}{:>14}{:>14}  {:>24}{:>12}{:>18}",
        "", "shown", "lost", "occurred", "RSS KiB, warm/end/peak", "files", "maps KiB"
    );
    for Row {
        name,
        counts,
        expected,
        growth,
    } in rows
    {
        println!(
            "{name:8}{:>14}{:>14}{expected:>14}  {:>24}{:>12}{:>18}",
            counts.shown,
            counts.lost,
            format!(
                "{} {} {}",
                growth.rss_kib.warm, growth.rss_kib.end, growth.rss_kib.peak
            ),
            format!("{} {}", growth.files.warm, growth.files.end),
            format!("{} {}", growth.maps_kib.warm, growth.maps_kib.end),
        );
    }
    let mut code = ExitCode::SUCCESS;
    for row in rows {
        for violation in row.violations() {
            println!("{}: {violation}", row.name);
            code = ExitCode::FAILURE;
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_or_invalid_durations_are_refused() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "19s", "20", "m", "-1h", "1d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
