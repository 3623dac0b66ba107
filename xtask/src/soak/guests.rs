//! The guests: all made before anybody watches, so that they can be watched by name, and run one after the other.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::number;
use crate::process;

/// How many share the time: threads come and go, and the last one does not take much longer than it should.
const GUESTS: u32 = 20;

/// VMs of a guest, each with a vCPU: one for each CPU, and more would add nothing. Two vCPUs in one VM may take a page fault twice.
const MOST_VMS: usize = 4;

/// What they do: handled by user space, and by the kernel alone.
const KINDS: &str = "io,cpuid";

/// What finds out how fast this machine is.
const FEW: u32 = 20_000;

/// One guest, which waits for a line.
struct Guest {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It has ended, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All of them.
pub(super) struct Guests {
    waiting: Vec<Guest>,
    running: Option<Guest>,
    pids: Vec<u32>,
    made: Made,
}

/// What they made together, by their own account.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) guests: u32,
    pub(super) userspace_exits: u64,
    pub(super) port_accesses: u64,
    /// By the kernel's name of the reason; none where KVM does without.
    pub(super) vm_exits: BTreeMap<String, u64>,
}

impl Made {
    fn add(&mut self, report: &Value) -> Result<()> {
        self.guests += 1;
        for vcpu in vcpus(report)? {
            self.userspace_exits += number(vcpu, "userspace_exits_total")?;
            self.port_accesses += number(&vcpu["made"], "io")?;
            for (reason, count) in vcpu["kvm_exits"].as_object().into_iter().flatten() {
                let count = count.as_u64().context("a count that is none")?;
                *self.vm_exits.entry(reason.clone()).or_default() += count;
            }
        }
        Ok(())
    }
}

fn vcpus(report: &Value) -> Result<Vec<&Value>> {
    let vms = report["vms"].as_array().context("a guest without VMs")?;
    Ok(vms
        .iter()
        .filter_map(|vm| vm["vcpus"].as_array())
        .flatten()
        .collect())
}

impl Guests {
    /// Enough guests for this long: each takes its part of the time even if nobody watches it, and nobody is faster than that.
    pub(super) fn prepare(collector: &Path, duration: Duration) -> Result<Self> {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let vms = cpus.min(MOST_VMS).to_string();
        let guest = |rounds: u32| {
            let mut command = Command::new(collector);
            command.args(["guest", "--json", "-k", KINDS, "--vms", &vms]);
            command.args(["-n", &rounds.to_string()]);
            command
        };
        let took = slowest_ns(&serde_json::from_str(&process::read(&mut guest(FEW))?)?)?;
        let part_ns = duration.as_nanos() / u128::from(GUESTS);
        let rounds = u128::from(FEW) * part_ns / u128::from(took.max(1));
        let rounds = u32::try_from(rounds.max(1)).unwrap_or(u32::MAX);
        let mut guests = Self {
            waiting: Vec::new(),
            running: None,
            pids: Vec::new(),
            made: Made::default(),
        };
        for _ in 0..GUESTS {
            let mut command = guest(rounds);
            command
                .arg("--wait-start")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut child = command.spawn().context("cannot start a guest")?;
            guests.pids.push(child.id());
            let stdin = child.stdin.take().context("its input is piped")?;
            let mut stdout = BufReader::new(child.stdout.take().context("its output is piped")?);
            let mut ready = String::new();
            stdout.read_line(&mut ready)?;
            guests.waiting.push(Guest {
                child,
                stdin,
                stdout,
            });
            ensure!(ready.contains("ready"), "a guest could not be made");
        }
        Ok(guests)
    }

    /// All processes, as an option's value.
    pub(super) fn pids(&self) -> String {
        let pids: Vec<_> = self.pids.iter().map(ToString::to_string).collect();
        pids.join(",")
    }

    /// Lets the next one go; whether there was one.
    pub(super) fn start_next(&mut self) -> Result<bool> {
        self.running = self.waiting.pop();
        if let Some(guest) = &mut self.running {
            guest.stdin.write_all(b"\n")?;
        }
        Ok(self.running.is_some())
    }

    /// Has the one that runs ended? Then it has been asked what it made.
    pub(super) fn is_done(&mut self) -> Result<bool> {
        let Some(guest) = &mut self.running else {
            return Ok(true);
        };
        let Some(status) = guest.child.try_wait()? else {
            return Ok(false);
        };
        let mut report = String::new();
        guest.stdout.read_line(&mut report)?;
        ensure!(status.success(), "a guest failed: {status}");
        self.made.add(&serde_json::from_str(&report)?)?;
        self.running = None;
        Ok(true)
    }

    /// Ends those that have not begun.
    pub(super) fn end(self) -> Made {
        self.made
    }
}

/// How long the slowest vCPU took.
fn slowest_ns(report: &Value) -> Result<u64> {
    vcpus(report)?
        .into_iter()
        .map(|vcpu| number(vcpu, "elapsed_ns"))
        .try_fold(0, |slowest, it| Ok(slowest.max(it?)))
}
