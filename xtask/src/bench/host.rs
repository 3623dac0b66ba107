//! The real-time part, on this machine: what a guest's exits take with each of those who watch, in turn, and what comes of the events.

use std::{
    fmt::Write as _,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::document::today;
use crate::{
    collector,
    process::{self, say},
    workspace,
};

/// Each is measured so often, in turn with the others.
const ROUNDS: usize = 7;

/// Exits of the guest in each.
const EXITS: &str = "60000";

/// Until programs are attached, or buffers are there.
const ATTACHING: Duration = Duration::from_millis(2500);

/// Who watches: a name, a command, and the file it records to. All have half a MiB of buffers for each CPU.
const WATCHERS: [(&str, &str, Option<&str>); 8] = [
    ("nobody", "sleep 1000", None),
    ("stat", "kvm-collector stat", None),
    ("perf stat", "perf stat -e 'kvm:*' -a sleep 1000", None),
    (
        "bpftrace, counts",
        "bpftrace -e 'tracepoint:kvm:* { @[probe] = count(); }'",
        None,
    ),
    (
        "trace",
        "kvm-collector trace --ring 512K -o /dev/null",
        None,
    ),
    (
        "record",
        "kvm-collector record --ring 512K -o kvm.data",
        Some("kvm.data"),
    ),
    (
        "perf record",
        "perf record -q -m 128 -o perf.data -e 'kvm:*' -a sleep 1000",
        Some("perf.data"),
    ),
    (
        "trace-cmd record",
        "trace-cmd record -q -b 512 -o trace.dat -e kvm sleep 1000",
        Some("trace.dat"),
    ),
];

/// What was measured of one of them.
#[derive(Debug, Default)]
struct Measured {
    /// CPU time of the vCPU's thread for each exit.
    ns_per_exit: Vec<f64>,
    exits_per_s: Vec<f64>,
    /// CPU time of the watcher, in seconds.
    cpu_s: Vec<f64>,
    /// Of what was recorded: events, those lost, bytes.
    recorded: Vec<(u64, u64, u64)>,
    /// Why there is nothing.
    absent: Option<String>,
}

/// Measures, and returns the table.
pub(crate) fn run(command: &str) -> Result<String> {
    ensure(process::is_root(), "measuring here takes root")?;
    let collector = collector::build()?;
    let folder = workspace::target("bench");
    fs::create_dir_all(&folder)?;
    let mut all: Vec<Measured> = WATCHERS.iter().map(|_| Measured::default()).collect();
    for round in 1..=ROUNDS {
        say!("round {round} of {ROUNDS}");
        for ((name, command, file), measured) in WATCHERS.iter().zip(&mut all) {
            if measured.absent.is_none() {
                let result = measure(&collector, &folder, command, *file, measured);
                if let Err(error) = result {
                    say!("{name}: {error:#}");
                    measured.absent = Some(format!("{error:#}"));
                }
            }
        }
    }
    table(&all, command)
}

fn ensure(holds: bool, why: &str) -> Result<()> {
    ensure!(holds, "{why}");
    Ok(())
}

fn measure(
    collector: &Path,
    folder: &Path,
    command: &str,
    file: Option<&str>,
    measured: &mut Measured,
) -> Result<()> {
    let program = command.split(' ').next().unwrap_or_default();
    ensure(
        program == "kvm-collector" || process::find(program).is_some(),
        &format!("{program} is not here"),
    )?;
    let said = folder.join("said");
    let mut watcher = begin(collector, folder, command, &said)?;
    thread::sleep(ATTACHING);
    ensure(watcher.try_wait()?.is_none(), &refusal(&said))?;
    let began = Instant::now();
    let guest = Command::new(collector)
        .args(["guest", "-k", "io", "-n", EXITS, "--json"])
        .output()?;
    let elapsed = began.elapsed();
    // The shell stays for the times; all others of its group end.
    let group = format!("-{}", watcher.id());
    process::run(Command::new("kill").args(["-INT", "--", &group]))?;
    watcher.wait()?;
    let guest: Value = serde_json::from_slice(&guest.stdout).context("the guest said nothing")?;
    let vcpu = &guest["vms"][0]["vcpus"][0];
    let number = |value: &Value| {
        value
            .as_u64()
            .with_context(|| format!("no number in {guest}"))
    };
    let exits = vcpu["userspace_exits"].as_object().context("no exits")?;
    let exits: u64 = exits.values().filter_map(Value::as_u64).sum();
    let exits = precise(exits);
    measured
        .ns_per_exit
        .push(precise(number(&vcpu["cpu_ns"])?) / exits);
    measured.exits_per_s.push(exits / elapsed.as_secs_f64());
    measured
        .cpu_s
        .push(cpu_time(&fs::read_to_string(folder.join("times"))?)?);
    if let Some(file) = file {
        measured
            .recorded
            .push(recorded(collector, &folder.join(file))?);
    }
    Ok(())
}

/// Starts a watcher in a group of its own, with a shell that says in the end what CPU time it took.
fn begin(collector: &Path, folder: &Path, command: &str, said: &Path) -> Result<Child> {
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = collector
        .parent()
        .context("the collector lies in a folder")?;
    let said = File::create(said)?;
    Command::new("sh")
        .args(["-c", &format!("trap : INT; {command}; times > times")])
        .env("PATH", format!("{}:{path}", programs.display()))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{command}`"))
}

fn refusal(said: &PathBuf) -> String {
    let said = fs::read_to_string(said).unwrap_or_default();
    let line = said.lines().rfind(|it| !it.trim().is_empty());
    format!("it ended at once: {}", line.unwrap_or("it said nothing"))
}

/// What the shell says of its children: `0m1.50s 0m0.25s`, in the second line.
fn cpu_time(times: &str) -> Result<f64> {
    let children = times.lines().nth(1).context("no times")?;
    let seconds = children.split_whitespace().map(|time| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    });
    seconds
        .sum::<Option<f64>>()
        .with_context(|| format!("no times: {children}"))
}

/// Events, those lost, and bytes of a recording. Of what only trace-cmd reads, only the bytes.
fn recorded(collector: &Path, file: &Path) -> Result<(u64, u64, u64)> {
    let bytes = fs::metadata(file)?.len();
    if file.extension().is_some_and(|it| it == "dat") {
        return Ok((0, 0, bytes));
    }
    let output = Command::new(collector)
        .args(["stat", "--json", "-i"])
        .arg(file)
        .output()?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "cannot read {}: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let events = report["events"].as_array().context("no events")?;
    let events = events.iter().filter_map(|it| it["count"].as_u64()).sum();
    Ok((events, report["loss"]["lost"].as_u64().unwrap_or(0), bytes))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn precise(number: u64) -> f64 {
    number as f64
}

/// The middle one, the least and the most.
fn spread(numbers: &[f64]) -> (f64, f64, f64) {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (
        at(sorted.len() / 2),
        at(0),
        at(sorted.len().saturating_sub(1)),
    )
}

fn table(all: &[Measured], command: &str) -> Result<String> {
    let kernel = process::read(Command::new("uname").arg("-r"))?;
    let base = spread(&all[0].ns_per_exit).0;
    let mut text = format!(
        "Linux {}, {} CPUs; kvm-collector {}; {}; medians of {ROUNDS} rounds (least to most). `{command}`\n\n\
         | who watches | ns of CPU time an exit takes more | exits/s | CPU of the watcher, s | events recorded | lost | bytes an event |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        kernel.trim(),
        thread::available_parallelism()?,
        env!("CARGO_PKG_VERSION"),
        today()?,
    );
    for ((name, _, _), it) in WATCHERS.iter().zip(all) {
        if let Some(why) = &it.absent {
            writeln!(
                text,
                "| {name} | not measured: {} |||||||",
                why.replace('|', "/")
            )?;
            continue;
        }
        let (ns, least, most) = spread(&it.ns_per_exit);
        let cost = if *name == "nobody" {
            format!("({ns:.0} in all, {least:.0} to {most:.0})")
        } else {
            format!(
                "{:.0} ({:.0} to {:.0})",
                ns - base,
                least - base,
                most - base
            )
        };
        write!(
            text,
            "| {name} | {cost} | {:.0} | {:.2} |",
            spread(&it.exits_per_s).0,
            spread(&it.cpu_s).0
        )?;
        let mut recorded = it.recorded.clone();
        recorded.sort_unstable();
        match recorded.get(recorded.len() / 2) {
            Some((0, _, bytes)) => writeln!(text, "  | | {bytes} bytes in all |")?,
            Some((events, lost, bytes)) => writeln!(
                text,
                " {events} | {lost} | {:.1} |",
                precise(*bytes) / precise(*events)
            )?,
            None => writeln!(text, " | | |")?,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shells_times_are_seconds() {
        let times = "0m0.00s 0m0.00s\n1m2.50s 0m0.25s\n";
        assert_eq!(cpu_time(times).unwrap(), 62.75);
        assert!(cpu_time("").is_err());
        assert!(cpu_time("0m0.00s 0m0.00s\nx y\n").is_err());
    }

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
    }
}
