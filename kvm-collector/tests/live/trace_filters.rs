//! The order of the events of `trace`, and its filters `--reason`, `--filter` and `--min-duration`. The results are compared
//! with the report of a guest, and with a second `trace` that shows all events.

use std::{collections::HashMap, fs};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    check::{ensure, ensure_equal, get_number},
    exit_reasons,
    requirements::{Requirement, collector_command, test},
    temp_files::TempFile,
};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("trace_is_ordered_by_time", REQUIREMENTS, ordered_by_time),
        test(
            "trace_selects_by_reason_and_filter",
            REQUIREMENTS,
            reason_and_filter,
        ),
        test("trace_selects_by_min_duration", REQUIREMENTS, min_duration),
    ]
}

/// The events of two vCPUs, which come from the rings of two CPUs, are merged in the order of time.
fn ordered_by_time() -> Result<(), Failed> {
    let guest = guest_command("-k io,cpuid,mmio -n 500 --vcpus 2");
    let trace = Trace::run(&["-e", "*"], &guest)?;
    let times: Vec<_> = trace
        .events
        .iter()
        .map(|event| get_number(event, "time_ns"))
        .collect::<Result<_, _>>()?;
    let backwards = times.windows(2).filter(|pair| pair[0] > pair[1]).count();
    // An emulated CPU may stop for longer than the reorder window. `trace` then reports late events.
    if backwards > 0 && !trace.stderr.contains("too late to be put in order of time") {
        return Err(format!("{backwards} of {} times go backwards", times.len()).into());
    }
    Ok(())
}

fn reason_and_filter() -> Result<(), Failed> {
    let guest = guest_command("-k io,cpuid,msr -n 100");
    let by_reason = Trace::run(
        &["-e", "kvm_exit", "--reason", exit_reasons::reason_of("io")?],
        &guest,
    )?;
    ensure_equal("exits for io", by_reason.of_guest("kvm_exit").len(), 102)?;
    let by_filter = Trace::run(
        &["-e", "kvm_pio,kvm_cpuid", "--filter", "port == 0x3f8"],
        &guest,
    )?;
    ensure_equal(
        "accesses to the port",
        by_filter.of_guest("kvm_pio").len(),
        100,
    )?;
    ensure_equal(
        "kvm_cpuid events, to which the filter does not apply",
        by_filter.of_guest("kvm_cpuid").len(),
        100,
    )
}

/// One collector shows only long exits, another one all exits. Each reads the clock itself, and an emulated CPU may stop for
/// some ms between the two readings. So exits with a duration near the limit may be shown or not.
fn min_duration() -> Result<(), Failed> {
    const LIMIT_NS: u64 = 10_000_000;
    const MARGIN_NS: u64 = 5_000_000;
    /// User space sleeps in every io exit except the last.
    const SLEEPS: usize = 21;
    let file = TempFile::new("long");
    let program = collector_command();
    let inner = format!(
        "{} trace -q --strict --json -e kvm_exit,kvm_pio --min-duration 10ms -o {} -- {}",
        program.get_program().display(),
        file.path().display(),
        guest_command("-k io,cpuid -n 20 --sleep 20ms"),
    );
    let all = Trace::run(&["-e", "kvm_exit,kvm_entry"], &inner)?;
    let long = Trace {
        events: parse_events(&fs::read_to_string(file.path())?)?,
        ..all.clone()
    };

    let shown = long.durations()?;
    if let Some(short) = shown.iter().find(|duration| **duration < LIMIT_NS) {
        return Err(format!("an exit of {short} ns was shown").into());
    }
    let all_durations = all.durations()?;
    let count_from = |ns: u64| all_durations.iter().filter(|it| **it >= ns).count();
    let (min, max) = (
        count_from(LIMIT_NS + MARGIN_NS),
        count_from(LIMIT_NS - MARGIN_NS),
    );
    ensure(min >= SLEEPS && (min..=max).contains(&shown.len()), || {
        let shown = shown.len();
        format!("{shown} exits were shown, expected {min} to {max}, and at least {SLEEPS}")
    })?;
    ensure_equal(
        "kvm_pio events in long exits",
        long.of_guest("kvm_pio").len(),
        SLEEPS,
    )
}

/// Returns a shell command that runs a guest.
fn guest_command(args: &str) -> String {
    let program = collector_command();
    format!("{} guest --json {args}", program.get_program().display())
}

/// The output of `trace --json`, and the report of the guest that ran meanwhile.
#[derive(Debug, Clone)]
struct Trace {
    events: Vec<Value>,
    guest: Value,
    stderr: String,
}

impl Trace {
    /// Runs `trace` with a shell command that prints the report of a guest.
    fn run(args: &[&str], command: &str) -> Result<Self, Failed> {
        let file = TempFile::new("trace");
        let output = collector_command()
            .args(["trace", "--strict", "--json", "--ring", "64M", "-o"])
            .arg(file.path())
            .args(args)
            .args(["--", "sh", "-c", command])
            .output()?;
        if !output.status.success() {
            return Err(format!("trace {args:?}: {output:?}").into());
        }
        Ok(Self {
            events: parse_events(&fs::read_to_string(file.path())?)?,
            guest: serde_json::from_slice(&output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Returns the events of the guest with this name.
    fn of_guest(&self, name: &str) -> Vec<&Value> {
        let is_selected = |event: &&Value| {
            event["pid"] == self.guest["pid"] && event["event"] == format!("kvm:{name}")
        };
        self.events.iter().filter(is_selected).collect()
    }

    /// Returns the times from each exit of the guest to the next entry of the same thread.
    fn durations(&self) -> Result<Vec<u64>, Failed> {
        let mut open_exits = HashMap::new();
        let mut durations = Vec::new();
        for event in &self.events {
            if event["pid"] != self.guest["pid"] {
                continue;
            }
            let (tid, time_ns) = (get_number(event, "tid")?, get_number(event, "time_ns")?);
            if event["event"] == "kvm:kvm_exit" {
                open_exits.insert(tid, time_ns);
            } else if event["event"] == "kvm:kvm_entry" {
                durations.extend(open_exits.remove(&tid).map(|exit_ns| time_ns - exit_ns));
            }
        }
        Ok(durations)
    }
}

fn parse_events(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    text.lines().map(serde_json::from_str).collect()
}
