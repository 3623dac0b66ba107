//! What `trace` shows of all that happens, and in which order: compared with what a guest made, and with a second collector
//! that shows everything.

use std::{collections::HashMap, env, fs, process};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::requirements::{Requirement, collector_command, test};

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test("trace_is_in_order", REQUIREMENTS, in_order),
        test("trace_reason_and_filter", REQUIREMENTS, reason_and_filter),
        test("trace_min_duration", REQUIREMENTS, min_duration),
    ]
}

/// Two vCPUs on two CPUs: each has its own way into the ring.
fn in_order() -> Result<(), Failed> {
    let guest = guest("-k io,cpuid,mmio -n 500 --vcpus 2");
    let trace = Trace::run(&["-e", "*"], &guest)?;
    let times: Vec<_> = trace
        .events
        .iter()
        .map(|it| number(&it["time_ns"]))
        .collect();
    let backwards = times.windows(2).filter(|pair| pair[0] > pair[1]).count();
    // An emulated CPU may stand still for longer than the window; what is late then is said to be.
    if backwards > 0 && !trace.stderr.contains("too late to be put in order of time") {
        return Err(format!("{backwards} of {} times go backwards", times.len()).into());
    }
    Ok(())
}

fn reason_and_filter() -> Result<(), Failed> {
    let guest = guest("-k io,cpuid,msr -n 100");
    let by_reason = Trace::run(&["-e", "kvm_exit", "--reason", "io"], &guest)?;
    expect(by_reason.of_guest("kvm_exit").len(), 102, "exits for io")?;
    let by_filter = Trace::run(
        &["-e", "kvm_pio,kvm_cpuid", "--filter", "port == 0x3f8"],
        &guest,
    )?;
    expect(
        by_filter.of_guest("kvm_pio").len(),
        100,
        "accesses to the port",
    )?;
    expect(
        by_filter.of_guest("kvm_cpuid").len(),
        100,
        "cpuids, which have no port",
    )
}

/// One collector shows the long exits, another one all. They read the clock one after the other, between which an
/// emulated CPU may stand still for ms: so what is about as long as the limit may be on either side of it.
fn min_duration() -> Result<(), Failed> {
    const LIMIT_NS: u64 = 10_000_000;
    const MARGIN_NS: u64 = 5_000_000;
    /// Each io but the last.
    const SLEEPS: usize = 21;
    let file = File::new("long");
    let program = collector_command();
    let inner = format!(
        "{} trace -q --strict --json -e kvm_exit,kvm_pio --min-duration 10ms -o {} -- {}",
        program.get_program().display(),
        file.0.display(),
        guest("-k io,cpuid -n 20 --sleep 20ms"),
    );
    let all = Trace::run(&["-e", "kvm_exit,kvm_entry"], &inner)?;
    let long = Trace {
        events: events(&fs::read_to_string(&file.0)?)?,
        ..all.clone()
    };

    let shown = long.durations();
    if let Some(short) = shown.iter().find(|it| **it < LIMIT_NS) {
        return Err(format!("an exit of {short} ns was shown").into());
    }
    let at_least = |ns: u64| all.durations().iter().filter(|it| **it >= ns).count();
    let (least, most) = (
        at_least(LIMIT_NS + MARGIN_NS),
        at_least(LIMIT_NS - MARGIN_NS),
    );
    if least < SLEEPS || !(least..=most).contains(&shown.len()) {
        let shown = shown.len();
        return Err(format!("{shown} exits were shown, of {least} to {most} so long").into());
    }
    expect(
        long.of_guest("kvm_pio").len(),
        SLEEPS,
        "kvm_pio within them",
    )
}

fn guest(args: &str) -> String {
    let program = collector_command();
    format!("{} guest --json {args}", program.get_program().display())
}

/// What one run of `trace --json` showed, and the guest that ran.
#[derive(Debug, Clone)]
struct Trace {
    events: Vec<Value>,
    guest: Value,
    stderr: String,
}

impl Trace {
    fn run(args: &[&str], command: &str) -> Result<Self, Failed> {
        let file = File::new("trace");
        let output = collector_command()
            .args(["trace", "--strict", "--json", "--ring", "64M", "-o"])
            .arg(&file.0)
            .args(args)
            .args(["--", "sh", "-c", command])
            .output()?;
        if !output.status.success() {
            return Err(format!("trace {args:?}: {output:?}").into());
        }
        Ok(Self {
            events: events(&fs::read_to_string(&file.0)?)?,
            guest: serde_json::from_slice(&output.stdout)?,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    fn of_guest(&self, event: &str) -> Vec<&Value> {
        let ours = |it: &&Value| it["pid"] == self.guest["pid"] && it["event"] == event;
        self.events.iter().filter(ours).collect()
    }

    /// From each exit of the guest to the entry of the same thread that follows.
    fn durations(&self) -> Vec<u64> {
        let mut left = HashMap::new();
        let mut durations = Vec::new();
        let ours = self
            .events
            .iter()
            .filter(|it| it["pid"] == self.guest["pid"]);
        for event in ours {
            let (tid, time) = (number(&event["tid"]), number(&event["time_ns"]));
            if event["event"] == "kvm_exit" {
                left.insert(tid, time);
            } else if event["event"] == "kvm_entry" {
                durations.extend(left.remove(&tid).map(|exit| time - exit));
            }
        }
        durations
    }
}

/// A file that is gone when dropped.
#[derive(Debug)]
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("kvm-collector-{name}-{}", process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn events(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    text.lines().map(serde_json::from_str).collect()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn expect(found: usize, expected: usize, what: &str) -> Result<(), Failed> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{found} {what} instead of {expected}").into())
    }
}
