//! The built-in guests. All are created before the collector starts, so it can select their pids; they run one after the other.

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

use super::json::number;
use crate::process;

/// Number of guests that share the time. Many short ones make threads start and end, and limit the overrun of the last one.
const GUESTS: u32 = 20;

/// Maximum number of VMs of a guest. Each VM has one vCPU: two vCPUs of a VM may take the same page fault twice.
const MAX_VMS: usize = 4;

/// Kinds of exits: one that user space handles, and one that the kernel handles.
const KINDS: &str = "io,cpuid";

/// Rounds of the run that measures the speed of this host.
const CALIBRATION_ROUNDS: u32 = 20_000;

/// A guest process that waits for a line on stdin.
struct Guest {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Usually it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All guests.
pub(super) struct Guests {
    waiting: Vec<Guest>,
    running: Option<Guest>,
    pids: Vec<u32>,
    totals: GuestTotals,
}

/// Sums of the counts that the guests report.
#[derive(Debug, Default)]
pub(super) struct GuestTotals {
    pub(super) guests: u32,
    pub(super) userspace_exits: u64,
    pub(super) port_accesses: u64,
    /// By exit reason; empty if this KVM reports no exits.
    pub(super) vm_exits: BTreeMap<String, u64>,
}

impl GuestTotals {
    fn add(&mut self, report: &Value) -> Result<()> {
        self.guests += 1;
        for vcpu in vcpus(report)? {
            self.userspace_exits += number(vcpu, "userspace_exits_total")?;
            self.port_accesses += number(&vcpu["made"], "io")?;
            for (reason, count) in vcpu["kvm_exits"].as_object().into_iter().flatten() {
                let count = count.as_u64().context("a count is not a number")?;
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
    /// Creates guests that together run for at least this long, even without the collector.
    pub(super) fn prepare(collector: &Path, duration: Duration) -> Result<Self> {
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        let vms = cpus.min(MAX_VMS).to_string();
        let guest = |rounds: u32| {
            let mut command = Command::new(collector);
            command.args(["guest", "--json", "-k", KINDS, "--vms", &vms]);
            command.args(["-n", &rounds.to_string()]);
            command
        };
        let slowest = slowest_ns(&serde_json::from_str(&process::read_stdout(&mut guest(
            CALIBRATION_ROUNDS,
        ))?)?)?;
        let part_ns = duration.as_nanos() / u128::from(GUESTS);
        let rounds = u128::from(CALIBRATION_ROUNDS) * part_ns / u128::from(slowest.max(1));
        let rounds = u32::try_from(rounds.max(1)).unwrap_or(u32::MAX);
        let mut guests = Self {
            waiting: Vec::new(),
            running: None,
            pids: Vec::new(),
            totals: GuestTotals::default(),
        };
        for _ in 0..GUESTS {
            let mut command = guest(rounds);
            command
                .arg("--wait-start")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut child = command.spawn().context("cannot start a guest")?;
            guests.pids.push(child.id());
            let stdin = child.stdin.take().context("stdin is not piped")?;
            let mut stdout = BufReader::new(child.stdout.take().context("stdout is not piped")?);
            let mut ready = String::new();
            stdout.read_line(&mut ready)?;
            guests.waiting.push(Guest {
                child,
                stdin,
                stdout,
            });
            ensure!(ready.contains("ready"), "a guest could not be created");
        }
        Ok(guests)
    }

    /// Returns the process ids of all guests, separated by commas.
    pub(super) fn pids(&self) -> String {
        let pids: Vec<_> = self.pids.iter().map(ToString::to_string).collect();
        pids.join(",")
    }

    /// Starts the next guest. Returns whether there was one.
    pub(super) fn start_next(&mut self) -> Result<bool> {
        self.running = self.waiting.pop();
        if let Some(guest) = &mut self.running {
            guest.stdin.write_all(b"\n")?;
        }
        Ok(self.running.is_some())
    }

    /// Returns whether the running guest has ended, and adds its report.
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
        self.totals.add(&serde_json::from_str(&report)?)?;
        self.running = None;
        Ok(true)
    }

    /// Stops the guests that have not started, and returns the totals of the others.
    pub(super) fn into_totals(self) -> GuestTotals {
        self.totals
    }
}

/// Returns the elapsed time of the slowest vCPU.
fn slowest_ns(report: &Value) -> Result<u64> {
    vcpus(report)?
        .into_iter()
        .map(|vcpu| number(vcpu, "elapsed_ns"))
        .try_fold(0, |slowest, elapsed| Ok(slowest.max(elapsed?)))
}
