//! `cargo xtask soak`: everybody watches guests at full rate for a long time. Numbers must not drift from what the guests say of
//! themselves, and nothing may grow.

mod guests;
mod resources;
mod watcher;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::{
    collector,
    process::{is_root, say},
    vm::{Series, Vm},
};
use guests::{Guests, Made};
use resources::Grown;
use watcher::{Counted, Watcher};

/// A recording is this long at most, so that it is rotated all the time.
const MAX_SIZE: &str = "16M";

/// Watch guests at full rate for long, and fail if a number drifts or anything grows
///
/// `stat`, `exits`, `trace` and `record` watch at once, while one built-in guest after the other makes exits as fast as it can. At the
/// end all counts are compared with what the guests say they made: they must be equal, lost events included. The watchers' memory, open
/// files and maps are sampled all the time; after a warm-up (a tenth of the time, 15 s at least) none may have grown: memory by no more
/// than 2 MiB, or 10 MiB where events are read from the ring. Ends with exit code 1 if anything is not so. Where kvm_exit does not fire,
/// `exits` counts accesses to ports instead.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo cargo xtask soak                          ten minutes, on this machine
  sudo cargo xtask soak --duration 20s           enough to see that all of it works
  cargo xtask soak --kernel 6.1 --duration 5m    in a VM with a real kvm_amd, which needs neither root nor KVM")]
pub(crate) struct SoakArgs {
    /// How long (20s, 10m, 2h). The guest that runs then is let finish, and takes some more
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// In the VM with this kernel, instead of on this machine
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// This collector, instead of building one
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
        .filter(|it| *it >= Duration::from_secs(20))
        .ok_or_else(|| "give 20s or more: 20s, 10m or 2h".into())
}

pub(crate) fn run(args: &SoakArgs) -> Result<ExitCode> {
    if let Some(kernel) = args.kernel {
        return in_vm(kernel, args.duration);
    }
    if !is_root() {
        bail!(
            "watching takes root's rights, and so does looking at who watches: `sudo cargo xtask soak`"
        );
    }
    let collector = match &args.collector {
        Some(file) => file.clone(),
        None => collector::build()?,
    };
    let folder = Folder::new()?;
    soak(&collector, args.duration, &folder.0)
}

/// The same command, in the VM.
fn in_vm(kernel: Series, duration: Duration) -> Result<ExitCode> {
    const XTASK_IN_VM: &str = "/bin/xtask";
    let mut vm = Vm::new(kernel)
        .with_file(collector::build_static()?.collector, collector::IN_VM)
        .with_file(collector::build_xtask_static()?, XTASK_IN_VM);
    // It boots, and its last guest takes its time.
    vm.timeout = duration * 2 + Duration::from_secs(300);
    let seconds = format!("{}s", duration.as_secs());
    let words = [
        XTASK_IN_VM,
        "soak",
        "--duration",
        &seconds,
        "--collector",
        collector::IN_VM,
    ];
    say!("Linux {} with kvm_amd, in a VM", kernel.name());
    let code = vm
        .prepare()?
        .run(&words.map(str::to_owned), &mut io::stdout())?;
    Ok(ExitCode::from(code))
}

/// For the recordings.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("kvm-collector-soak-{}", process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn soak(collector: &Path, duration: Duration, folder: &Path) -> Result<ExitCode> {
    let exits_fire = collector::reports_exits(collector);
    let mut guests = Guests::prepare(collector, duration)?;
    let recording = folder.join("kvm.data").display().to_string();
    let mut exits = vec!["exits", "--json", "-I", "1s"];
    if !exits_fire {
        say!("kvm_exit does not fire here: `exits` counts accesses to ports");
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
            MAX_SIZE,
            "--rotate",
            "2",
        ],
    ];
    // Only our guests, whatever else runs on this machine.
    let only = guests.pids();
    let mut watchers = commands
        .iter()
        .map(|args| Watcher::begin(collector, args, &only))
        .collect::<Result<Vec<_>>>()?;
    say!(
        "all watch; this takes {} s and the rest of a guest",
        duration.as_secs()
    );
    let begin = Instant::now();
    while begin.elapsed() < duration && guests.start_next()? {
        while !guests.is_done()? {
            watchers
                .iter_mut()
                .try_for_each(|it| it.sample(begin.elapsed()))?;
            thread::sleep(Duration::from_millis(200));
        }
    }
    let took = begin.elapsed();
    let mut ended = Vec::new();
    for watcher in watchers {
        ended.push(watcher.end()?);
    }
    // Those that have not begun, whose end is none of the watchers' business.
    let made = guests.end();
    let [stat, exits, trace, record] =
        <[_; 4]>::try_from(ended).map_err(|_| anyhow::anyhow!("four watched"))?;
    let all = watcher::all_events(&stat.report()?)?;
    let exits_row = if exits_fire {
        let counted = watcher::of_exits(&exits, &made.vm_exits)?;
        Row::new("exits", counted, made.vm_exits.values().sum(), exits.grown)
    } else {
        Row::new(
            "exits",
            watcher::of_ports(&exits)?,
            made.port_accesses,
            exits.grown,
        )
    };
    let rows = [
        Row::new(
            "stat",
            watcher::of_stat(&stat)?,
            made.userspace_exits,
            stat.grown,
        ),
        exits_row,
        Row::new(
            "trace",
            watcher::of_summary(&trace, "printed")?,
            all,
            trace.grown,
        ),
        Row::new(
            "record",
            watcher::of_summary(&record, "recorded")?,
            all,
            record.grown,
        ),
    ];
    Ok(report(&rows, &made, took))
}

/// A watcher, and what is right for it.
struct Row {
    name: &'static str,
    counted: Counted,
    expected: u64,
    grown: Grown,
}

impl Row {
    fn new(name: &'static str, counted: Counted, expected: u64, grown: Grown) -> Self {
        Self {
            name,
            counted,
            expected,
            grown,
        }
    }

    /// What is wrong with it.
    fn violations(&self) -> Vec<String> {
        let mut violations = self
            .grown
            .violations(matches!(self.name, "trace" | "record"));
        let Counted { shown, lost } = self.counted;
        if shown + lost != self.expected {
            violations.push(format!(
                "{shown} shown and {lost} lost are not the {} that happened",
                self.expected
            ));
        }
        violations
    }
}

/// Prints the table, and what is wrong.
fn report(rows: &[Row], made: &Made, took: Duration) -> ExitCode {
    println!(
        "{} guests made {} exits to user space in {} s",
        made.guests,
        made.userspace_exits,
        took.as_secs()
    );
    println!(
        "{:8}{:>14}{:>14}{:>14}  {:>24}{:>12}{:>18}",
        "", "shown", "lost", "happened", "RSS KiB, warm/end/peak", "files", "maps KiB"
    );
    for Row {
        name,
        counted,
        expected,
        grown,
    } in rows
    {
        println!(
            "{name:8}{:>14}{:>14}{expected:>14}  {:>24}{:>12}{:>18}",
            counted.shown,
            counted.lost,
            format!(
                "{} {} {}",
                grown.rss_kib.warm, grown.rss_kib.end, grown.rss_kib.peak
            ),
            format!("{} {}", grown.files.warm, grown.files.end),
            format!("{} {}", grown.maps_kib.warm, grown.maps_kib.end),
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

/// A number of a JSON object.
fn number(object: &Value, name: &str) -> Result<u64> {
    object[name]
        .as_u64()
        .with_context(|| format!("no number `{name}` in {object}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_long_enough() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "19s", "20", "m", "-1h", "1d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
