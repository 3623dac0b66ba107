//! The built-in guest: held at its start until everybody watches, then asked what it made.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    check::{list, number},
    exit_reasons,
    process::{ChildGuard, OutputReader, join_reader, run_collector},
    requirements::collector_command,
};

/// A guest that waits for its start.
pub(crate) struct Guest {
    child: ChildGuard,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: OutputReader,
    /// Its process.
    pub(crate) pid: String,
    /// Its vCPUs' threads.
    pub(crate) tids: Vec<u32>,
}

/// What a guest made.
#[derive(Debug)]
pub(crate) struct GuestReport(Value);

impl Guest {
    /// Makes it and enters nothing.
    pub(crate) fn prepare(args: &[&str]) -> Result<Self, Failed> {
        Self::start(collector_command(), args)
    }

    /// The same by a command that runs the collector.
    pub(crate) fn start(mut collector: Command, args: &[&str]) -> Result<Self, Failed> {
        let mut child = ChildGuard::spawn(
            collector
                .args(["guest", "--wait-start", "--json"])
                .args(args)
                .stdin(Stdio::piped()),
        )?;
        let stdin = child.0.stdin.take().ok_or("stdin is piped")?;
        let mut stdout = BufReader::new(child.0.stdout.take().ok_or("stdout is piped")?);
        let stderr = child.stderr();
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let Ok(line) = serde_json::from_str::<Value>(&line) else {
            drop(child);
            return Err(format!("no guest: `{line}`, {}", join_reader(stderr)).into());
        };
        let roster = &line["ready"];
        let mut tids = Vec::new();
        for vm in list(roster, "vms")? {
            for vcpu in list(vm, "vcpus")? {
                tids.push(u32::try_from(number(vcpu, "tid")?)?);
            }
        }
        Ok(Self {
            child,
            stdin,
            stdout,
            stderr,
            pid: number(roster, "pid")?.to_string(),
            tids,
        })
    }

    /// Lets it go.
    pub(crate) fn release(&mut self) -> Result<(), Failed> {
        Ok(self.stdin.write_all(b"\n")?)
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Result<GuestReport, Failed> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let code = self.child.wait()?;
        match serde_json::from_str(&line) {
            Ok(made) if code == Some(0) => Ok(GuestReport(made)),
            _ => Err(format!("the guest failed: {line} {}", join_reader(self.stderr)).into()),
        }
    }

    /// From its start to its end.
    pub(crate) fn run(mut self) -> Result<GuestReport, Failed> {
        self.release()?;
        self.finish()
    }
}

impl GuestReport {
    /// A VM of one vCPU, from its start to its end, which waits for nobody; in each exit to user space it sleeps for a time.
    pub(crate) fn by_short_vm(name: &str, rounds: u32, sleep: &str) -> Result<Self, Failed> {
        let rounds = rounds.to_string();
        let args = ["-k", "io", "-n", &rounds, "--name", name, "--sleep", sleep];
        let ended = run_collector(&[&["guest", "--json"][..], &args].concat())?;
        Ok(Self(ended.expect_code(0)?.report()?))
    }

    fn vcpus(&self) -> Result<Vec<&Value>, Failed> {
        let mut vcpus = Vec::new();
        for vm in list(&self.0, "vms")? {
            vcpus.extend(list(vm, "vcpus")?);
        }
        Ok(vcpus)
    }

    /// The sum over all vCPUs of one of the times that the guest took of itself.
    pub(crate) fn time_ns(&self, name: &str) -> Result<u64, Failed> {
        self.sum(name)
    }

    /// The sum of a number over all vCPUs.
    pub(crate) fn sum(&self, name: &str) -> Result<u64, Failed> {
        self.vcpus()?.iter().map(|it| number(it, name)).sum()
    }

    /// The index of each vCPU.
    pub(crate) fn indices(&self) -> Result<Vec<u64>, Failed> {
        self.vcpus()?.iter().map(|it| number(it, "vcpu")).collect()
    }

    /// Returns of `KVM_RUN`, as many `kvm_userspace_exit` events.
    pub(crate) fn userspace_exits(&self) -> Result<u64, Failed> {
        self.vcpus()?
            .iter()
            .map(|it| number(it, "userspace_exits_total"))
            .sum()
    }

    /// How often the vCPU of an index did a thing.
    pub(crate) fn made_by(&self, vcpu: u64, kind: &str) -> Result<u64, Failed> {
        let mut sum = 0;
        for it in self.vcpus()? {
            if number(it, "vcpu")? == vcpu {
                sum += number(&it["made"], kind)?;
            }
        }
        Ok(sum)
    }

    /// VM exits of the vCPUs of an index, per reason's code.
    pub(crate) fn exits_of(&self, vcpu: u64) -> Result<BTreeMap<u64, u64>, Failed> {
        let mut sums = BTreeMap::new();
        for it in self.vcpus()? {
            if number(it, "vcpu")? != vcpu {
                continue;
            }
            let exits = it["kvm_exits"]
                .as_object()
                .ok_or("the guest knows no VM exits here")?;
            for (name, count) in exits {
                *sums.entry(exit_reasons::reason_code(name)?).or_default() +=
                    count.as_u64().ok_or("a count that is none")?;
            }
        }
        Ok(sums)
    }

    /// VM exits of all vCPUs, per reason's code.
    pub(crate) fn exits(&self) -> Result<BTreeMap<u64, u64>, Failed> {
        let mut indices = self.indices()?;
        indices.sort_unstable();
        indices.dedup();
        let mut sums = BTreeMap::new();
        for vcpu in indices {
            for (code, count) in self.exits_of(vcpu)? {
                *sums.entry(code).or_default() += count;
            }
        }
        Ok(sums)
    }

    /// VM exits per reason, by the kernel's name.
    pub(crate) fn exits_by_name(&self) -> Result<BTreeMap<String, u64>, Failed> {
        let mut sums = BTreeMap::new();
        for it in self.vcpus()? {
            let exits = it["kvm_exits"]
                .as_object()
                .ok_or("the guest knows no VM exits here")?;
            for (name, count) in exits {
                *sums.entry(name.clone()).or_default() +=
                    count.as_u64().ok_or("a count that is none")?;
            }
        }
        Ok(sums)
    }
}
