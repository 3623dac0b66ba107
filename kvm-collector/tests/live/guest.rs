//! The built-in guest of the collector. It waits until the collectors of a test are attached, and reports what it did.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::{
    check::{get_list, get_number},
    exit_reasons,
    process::{ChildGuard, OutputReader, join_reader, run_collector},
    requirements::collector_command,
};

/// A process with one or more VMs. Their vCPUs wait for [`Guest::start`].
pub(crate) struct Guest {
    child: ChildGuard,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: OutputReader,
    /// The process id, as an argument for collectors.
    pub(crate) pid: String,
    /// The thread id of each vCPU.
    pub(crate) tids: Vec<u32>,
}

/// The report that a guest prints when it ends: what each vCPU did.
#[derive(Debug)]
pub(crate) struct GuestReport(Value);

impl Guest {
    /// Creates the VMs. No vCPU enters the guest before [`Guest::start`].
    pub(crate) fn prepare(args: &[&str]) -> Result<Self, Failed> {
        Self::prepare_with(collector_command(), args)
    }

    /// Like [`Guest::prepare`], with a command that runs the collector in a special way.
    pub(crate) fn prepare_with(mut collector: Command, args: &[&str]) -> Result<Self, Failed> {
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
        let ready = &line["ready"];
        let mut tids = Vec::new();
        for vm in get_list(ready, "vms")? {
            for vcpu in get_list(vm, "vcpus")? {
                tids.push(u32::try_from(get_number(vcpu, "tid")?)?);
            }
        }
        Ok(Self {
            child,
            stdin,
            stdout,
            stderr,
            pid: get_number(ready, "pid")?.to_string(),
            tids,
        })
    }

    /// Starts the vCPUs.
    pub(crate) fn start(&mut self) -> Result<(), Failed> {
        Ok(self.stdin.write_all(b"\n")?)
    }

    /// Waits until the guest has ended.
    pub(crate) fn finish(mut self) -> Result<GuestReport, Failed> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let code = self.child.wait()?;
        match serde_json::from_str(&line) {
            Ok(report) if code == Some(0) => Ok(GuestReport(report)),
            _ => Err(format!("the guest failed: {line} {}", join_reader(self.stderr)).into()),
        }
    }

    /// Starts the vCPUs, and waits until the guest has ended.
    pub(crate) fn run(mut self) -> Result<GuestReport, Failed> {
        self.start()?;
        self.finish()
    }
}

impl GuestReport {
    /// Runs a VM with one vCPU that starts at once. User space sleeps in each exit that it handles.
    pub(crate) fn run_short_vm(name: &str, iterations: u32, sleep: &str) -> Result<Self, Failed> {
        let iterations = iterations.to_string();
        let args = ["-k", "io", "-n", &iterations, "--name", name];
        let args = [&["guest", "--json"], &args[..], &["--sleep", sleep]].concat();
        Ok(Self(run_collector(&args)?.expect_code(0)?.report()?))
    }

    fn vcpus(&self) -> Result<Vec<&Value>, Failed> {
        let mut vcpus = Vec::new();
        for vm in get_list(&self.0, "vms")? {
            vcpus.extend(get_list(vm, "vcpus")?);
        }
        Ok(vcpus)
    }

    /// Returns the sum of a number over all vCPUs.
    pub(crate) fn sum(&self, key: &str) -> Result<u64, Failed> {
        let vcpus = self.vcpus()?;
        vcpus.iter().map(|vcpu| get_number(vcpu, key)).sum()
    }

    /// Returns the index of each vCPU.
    pub(crate) fn indices(&self) -> Result<Vec<u64>, Failed> {
        let vcpus = self.vcpus()?;
        vcpus.iter().map(|vcpu| get_number(vcpu, "vcpu")).collect()
    }

    /// Returns how often `KVM_RUN` returned, which is the number of `kvm_userspace_exit` events.
    pub(crate) fn userspace_exits(&self) -> Result<u64, Failed> {
        self.sum("userspace_exits_total")
    }

    /// Returns how many operations of this kind (`--kind`) the vCPUs with this index did.
    pub(crate) fn operation_count(&self, index: u64, kind: &str) -> Result<u64, Failed> {
        let mut sum = 0;
        for vcpu in self.vcpus()? {
            if get_number(vcpu, "vcpu")? == index {
                sum += get_number(&vcpu["made"], kind)?;
            }
        }
        Ok(sum)
    }

    /// Returns the number of VM exits per reason code, of the vCPUs with this index.
    pub(crate) fn vcpu_exits(&self, index: u64) -> Result<BTreeMap<u64, u64>, Failed> {
        let mut sums = BTreeMap::new();
        for vcpu in self.vcpus()? {
            if get_number(vcpu, "vcpu")? == index {
                for (name, count) in named_exits(vcpu)? {
                    *sums.entry(exit_reasons::reason_code(name)?).or_default() += count;
                }
            }
        }
        Ok(sums)
    }

    /// Returns the number of VM exits of all vCPUs, per reason code.
    pub(crate) fn exits(&self) -> Result<BTreeMap<u64, u64>, Failed> {
        let mut indices = self.indices()?;
        indices.sort_unstable();
        indices.dedup();
        let mut sums = BTreeMap::new();
        for vcpu in indices {
            for (code, count) in self.vcpu_exits(vcpu)? {
                *sums.entry(code).or_default() += count;
            }
        }
        Ok(sums)
    }

    /// Returns the number of VM exits of all vCPUs, per name that the kernel has for the reason.
    pub(crate) fn exits_by_name(&self) -> Result<BTreeMap<String, u64>, Failed> {
        let mut sums = BTreeMap::new();
        for vcpu in self.vcpus()? {
            for (name, count) in named_exits(vcpu)? {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
        Ok(sums)
    }
}

/// Returns the VM exits that one vCPU expects: the name of each reason and the count.
fn named_exits(vcpu: &Value) -> Result<Vec<(&String, u64)>, Failed> {
    let exits = vcpu["kvm_exits"]
        .as_object()
        .ok_or("the guest does not know its VM exits on this machine")?;
    exits
        .iter()
        .map(|(name, count)| Ok((name, count.as_u64().ok_or("a count is not a number")?)))
        .collect()
}
