//! Measures the overhead of tools in real time on this machine, and how many events they record and lose.

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

use super::overhead_document::today;
use crate::{
    collector,
    process::{self, info},
    workspace,
};

/// Number of measurements of each tool. The tools take turns.
const ROUNDS: usize = 7;

/// Number of exits of the guest in each measurement.
const EXITS: &str = "60000";

/// Time for a tool to attach programs or to allocate buffers.
const START_TIME: Duration = Duration::from_millis(2500);

/// The tools: name, command, and the file that it records to. All have buffers of 512 KiB per CPU.
const TOOLS: [(&str, &str, Option<&str>); 8] = [
    ("no tool", "sleep 1000", None),
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

/// Measurements of one tool.
#[derive(Debug, Default)]
struct Measurements {
    /// CPU time of the vCPU thread per exit.
    ns_per_exit: Vec<f64>,
    exits_per_s: Vec<f64>,
    /// CPU time of the tool's process.
    cpu_s: Vec<f64>,
    /// Recorded events, lost events, and bytes of each recording.
    recorded: Vec<(u64, u64, u64)>,
    /// Why the tool was not measured.
    failure: Option<String>,
}

/// Measures, and returns the table.
pub(crate) fn run(command: &str) -> Result<String> {
    ensure(
        process::is_root(),
        "run this as root to measure on this machine",
    )?;
    let collector = collector::build()?;
    let folder = workspace::target("bench");
    fs::create_dir_all(&folder)?;
    let mut all: Vec<Measurements> = TOOLS.iter().map(|_| Measurements::default()).collect();
    for round in 1..=ROUNDS {
        info!("round {round} of {ROUNDS}");
        for ((name, command, file), measurements) in TOOLS.iter().zip(&mut all) {
            if measurements.failure.is_none() {
                let result = measure(&collector, &folder, command, *file, measurements);
                if let Err(error) = result {
                    info!("{name}: {error:#}");
                    measurements.failure = Some(format!("{error:#}"));
                }
            }
        }
    }
    format_table(&all, command)
}

fn ensure(condition: bool, message: &str) -> Result<()> {
    ensure!(condition, "{message}");
    Ok(())
}

/// Runs a guest while a tool runs, and adds the measurements.
fn measure(
    collector: &Path,
    folder: &Path,
    command: &str,
    file: Option<&str>,
    measurements: &mut Measurements,
) -> Result<()> {
    let program = command.split(' ').next().unwrap_or_default();
    ensure(
        program == "kvm-collector" || process::find_program(program).is_some(),
        &format!("{program} is not installed"),
    )?;
    let output = folder.join("output");
    let mut tool = start_tool(collector, folder, command, &output)?;
    thread::sleep(START_TIME);
    ensure(tool.try_wait()?.is_none(), &failure_message(&output))?;
    let start = Instant::now();
    let guest = Command::new(collector)
        .args(["guest", "-k", "io", "-n", EXITS, "--json"])
        .output()?;
    let elapsed = start.elapsed();
    // The shell ignores the signal and then prints the times. The other processes of its group end.
    let group = format!("-{}", tool.id());
    process::run(Command::new("kill").args(["-INT", "--", &group]))?;
    tool.wait()?;
    let guest: Value =
        serde_json::from_slice(&guest.stdout).context("the guest printed nothing")?;
    let vcpu = &guest["vms"][0]["vcpus"][0];
    let number = |value: &Value| {
        value
            .as_u64()
            .with_context(|| format!("no number in {guest}"))
    };
    let exits = vcpu["userspace_exits"].as_object().context("no exits")?;
    let exits: u64 = exits.values().filter_map(Value::as_u64).sum();
    let exits = to_f64(exits);
    measurements
        .ns_per_exit
        .push(to_f64(number(&vcpu["cpu_ns"])?) / exits);
    measurements.exits_per_s.push(exits / elapsed.as_secs_f64());
    measurements
        .cpu_s
        .push(parse_cpu_time(&fs::read_to_string(folder.join("times"))?)?);
    if let Some(file) = file {
        measurements
            .recorded
            .push(read_recording(collector, &folder.join(file))?);
    }
    Ok(())
}

/// Starts a tool in a new process group, in a shell that prints its CPU time at the end.
fn start_tool(collector: &Path, folder: &Path, command: &str, output: &Path) -> Result<Child> {
    let path = std::env::var("PATH").unwrap_or_default();
    let programs = collector
        .parent()
        .context("the collector's path has no folder")?;
    let output = File::create(output)?;
    Command::new("sh")
        .args(["-c", &format!("trap : INT; {command}; times > times")])
        .env("PATH", format!("{}:{path}", programs.display()))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{command}`"))
}

/// Returns the message for a tool that ended at once: the last line of its output.
fn failure_message(output: &PathBuf) -> String {
    let output = fs::read_to_string(output).unwrap_or_default();
    let line = output.lines().rfind(|line| !line.trim().is_empty());
    format!("it ended at once: {}", line.unwrap_or("without a message"))
}

/// Parses the output of the shell's `times`. The second line is the CPU time of its children, such as `0m1.50s 0m0.25s`.
/// Returns seconds.
fn parse_cpu_time(times: &str) -> Result<f64> {
    let children = times.lines().nth(1).context("no times")?;
    let seconds = children.split_whitespace().map(|time| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
    });
    seconds
        .sum::<Option<f64>>()
        .with_context(|| format!("no times: {children}"))
}

/// Returns the numbers of events, lost events and bytes of a recording. For trace-cmd's format, only the bytes are known.
fn read_recording(collector: &Path, file: &Path) -> Result<(u64, u64, u64)> {
    let bytes = fs::metadata(file)?.len();
    if file.extension().is_some_and(|extension| extension == "dat") {
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
    let events = events
        .iter()
        .filter_map(|event| event["count"].as_u64())
        .sum();
    Ok((events, report["loss"]["lost"].as_u64().unwrap_or(0), bytes))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// Returns the median, the minimum and the maximum.
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

/// Formats the measurements as a table.
fn format_table(all: &[Measurements], command: &str) -> Result<String> {
    let kernel = process::read_stdout(Command::new("uname").arg("-r"))?;
    let base = spread(&all[0].ns_per_exit).0;
    let mut text = format!(
        "Linux {}, {} CPUs; kvm-collector {}; {}; medians of {ROUNDS} rounds (minimum to maximum). `{command}`\n\n\
         | tool | additional CPU time per exit, ns | exits/s | CPU time of the tool, s | recorded events | lost | bytes per event |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        kernel.trim(),
        thread::available_parallelism()?,
        env!("CARGO_PKG_VERSION"),
        today()?,
    );
    for ((name, _, _), measurements) in TOOLS.iter().zip(all) {
        if let Some(reason) = &measurements.failure {
            writeln!(
                text,
                "| {name} | not measured: {} |||||||",
                reason.replace('|', "/")
            )?;
            continue;
        }
        let (ns, min, max) = spread(&measurements.ns_per_exit);
        let cost = if *name == "no tool" {
            format!("({ns:.0} in total, {min:.0} to {max:.0})")
        } else {
            format!("{:.0} ({:.0} to {:.0})", ns - base, min - base, max - base)
        };
        write!(
            text,
            "| {name} | {cost} | {:.0} | {:.2} |",
            spread(&measurements.exits_per_s).0,
            spread(&measurements.cpu_s).0
        )?;
        let mut recorded = measurements.recorded.clone();
        recorded.sort_unstable();
        match recorded.get(recorded.len() / 2) {
            Some((0, _, bytes)) => writeln!(text, "  | | {bytes} bytes in total |")?,
            Some((events, lost, bytes)) => writeln!(
                text,
                " {events} | {lost} | {:.1} |",
                to_f64(*bytes) / to_f64(*events)
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
    fn times_of_the_shell_are_parsed() {
        let times = "0m0.00s 0m0.00s\n1m2.50s 0m0.25s\n";
        assert_eq!(parse_cpu_time(times).unwrap(), 62.75);
        assert!(parse_cpu_time("").is_err());
        assert!(parse_cpu_time("0m0.00s 0m0.00s\nx y\n").is_err());
    }

    #[test]
    fn the_spread_has_median_minimum_and_maximum() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), (2.0, 1.0, 3.0));
    }
}
