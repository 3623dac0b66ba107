//! The deterministic part: in a VM whose clock counts instructions, what watching costs a guest per exit.
//!
//! The guest's vCPU thread says how much CPU time it took, by its own clock, so what the watcher itself does on the CPU meanwhile is
//! not in it. A VM of more than one CPU has one clock for all of them, which goes on while any other CPU's instructions are
//! emulated. But that is done for thousands of instructions at a time: the median of the times between two returns to user space has
//! none of another CPU in it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::watchers::Watcher;
use crate::{
    collector,
    process::say,
    vm::{PreparedVm, Series, Vm},
};

/// Rounds of one `out` (which user space handles) and one `cpuid` (which the kernel handles).
const ROUNDS: u64 = 2000;

/// What a line of the script's begins with that says a result.
const RESULT: &str = "bench-result";

/// What was measured in one VM.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// The VM's kernel, as `uname -r` has it.
    pub(crate) kernel: String,
    /// Of the other tools.
    pub(crate) versions: Vec<String>,
    pub(crate) cpus: u32,
    /// Of a guest with a vCPU on each CPU.
    pub(crate) per_exit: PerExit,
    /// Of a guest with one vCPU, where the VM has more CPUs than that.
    pub(crate) one_vcpu: PerExit,
}

/// Instructions an exit takes more with each watcher than with nobody watching, by its name; with nobody, all it takes.
pub(crate) type PerExit = BTreeMap<&'static str, f64>;

/// Measures watchers, the first of which is nobody.
pub(crate) fn run(kernel: Series, cpus: u32, watchers: &[Watcher]) -> Result<Counted> {
    let built = collector::build_static()?;
    let mut vm = Vm::new(kernel)
        .with_file(&built.collector, collector::IN_VM)
        .with_file(&built.floor, "/bin/floor");
    vm.cpus = cpus;
    vm.counts_instructions = true;
    // The file systems lie in memory, bpftrace with all of LLVM.
    vm.memory_mib = 3072;
    vm.timeout = Duration::from_secs(1800);
    let mut packages: Vec<&str> = watchers.iter().filter_map(|it| it.package).collect();
    packages.dedup();
    vm.packages = packages.iter().map(|it| (*it).to_owned()).collect();
    let vm = PreparedVm::fetch(vm)?;
    say!(
        "measuring on Linux {}, where a nanosecond is an instruction",
        kernel.name()
    );
    let mut output = Progress {
        watchers,
        text: Vec::new(),
        said: 0,
    };
    let script = script(watchers, cpus);
    let code = vm.run(&["sh".to_owned(), "-c".to_owned(), script], &mut output)?;
    let output = String::from_utf8_lossy(&output.text).into_owned();
    ensure!(code == 0, "the measurement failed:\n{output}");
    read(&output, watchers, cpus).with_context(|| format!("in what the VM printed:\n{output}"))
}

/// The shell's part: each watcher in turn, and the guest while it watches.
fn script(watchers: &[Watcher], cpus: u32) -> String {
    let guest = |vcpus: u32| {
        let cpu_list: Vec<_> = (0..vcpus).map(|cpu| cpu.to_string()).collect();
        format!(
            "kvm-collector guest -k io,cpuid -n {ROUNDS} --vcpus {vcpus} --cpu {} --json",
            cpu_list.join(",")
        )
    };
    let guests = if cpus == 1 { vec![1] } else { vec![1, cpus] };
    let mut script = String::from("uname -r | sed 's/^/bench-kernel /'\n");
    for program in ["perf --version", "trace-cmd -V", "bpftrace --version"] {
        let _ = writeln!(
            script,
            "{program} 2>&1 | grep -i version | head -1 | sed 's/^/bench-version /'"
        );
    }
    // Once for nothing, so that everything is in memory.
    let _ = writeln!(script, "{} > /dev/null", guest(cpus));
    for (index, Watcher { name, command, .. }) in watchers.iter().enumerate() {
        // A shell of its own, in the background; its input stays open.
        let _ = writeln!(
            script,
            "mkfifo /tmp/in{index}; sleep 100000 > /tmp/in{index} & holder=$!\n\
             sh -c {} < /tmp/in{index} > /tmp/out 2>&1 & watcher=$!\n\
             sleep 20; kill -0 $watcher 2> /dev/null || {{ echo \"{name} ended at once:\"; tail -3 /tmp/out; exit 1; }}",
            quoted(&format!("exec {}", only_command(command)))
        );
        for &vcpus in &guests {
            let _ = writeln!(
                script,
                "printf '{RESULT} {index} {vcpus} '; {} | tail -1",
                guest(vcpus)
            );
        }
        let _ = writeln!(
            script,
            "kill -INT $watcher; sleep 1; kill $holder; sleep 1; kill $watcher 2> /dev/null; wait $watcher\n\
             echo 0 > /sys/kernel/tracing/events/enable; sleep 2"
        );
    }
    script.push_str("exit 0\n");
    script
}

/// Keeps what the VM prints, and says how far it is.
struct Progress<'a> {
    watchers: &'a [Watcher],
    text: Vec<u8>,
    said: usize,
}

impl Write for Progress<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.text);
        let last = text.lines().rfind(|line| line.starts_with(RESULT));
        let index = last.and_then(|line| line[RESULT.len()..].split_whitespace().next());
        let measured = index.map_or(0, |index| index.parse::<usize>().map_or(0, |it| it + 1));
        for number in self.said..measured.min(self.watchers.len()) {
            let name = self.watchers[number].name;
            say!("{} of {}: {name}", number + 1, self.watchers.len());
        }
        self.said = measured;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A list of commands cannot be executed in the shell's place.
fn only_command(command: &str) -> String {
    if command.contains(';') && !command.starts_with("bpftrace") {
        format!("sh -c {}", quoted(command))
    } else {
        command.to_owned()
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn read(output: &str, watchers: &[Watcher], cpus: u32) -> Result<Counted> {
    let mut counted = Counted {
        cpus,
        ..Counted::default()
    };
    for line in output.lines() {
        if let Some(kernel) = line.strip_prefix("bench-kernel ") {
            counted.kernel = kernel.trim().to_owned();
        } else if let Some(version) = line.strip_prefix("bench-version ") {
            counted.versions.push(version.trim().to_owned());
        } else if let Some(result) = line.strip_prefix(RESULT) {
            let mut parts = result.trim().splitn(3, ' ');
            let mut part = || parts.next().context("no result");
            let (index, vcpus, guest) = (part()?, part()?, part()?);
            let watcher = watchers
                .get(index.parse::<usize>()?)
                .context("no watcher")?;
            let measured = if vcpus.parse::<u32>()? == cpus {
                &mut counted.per_exit
            } else {
                &mut counted.one_vcpu
            };
            measured.insert(watcher.name, per_exit(&serde_json::from_str(guest)?, cpus)?);
        }
    }
    for measured in [&mut counted.per_exit, &mut counted.one_vcpu] {
        let nothing = measured.get(watchers[0].name).copied().unwrap_or_default();
        for watcher in &watchers[1..] {
            if let Some(cost) = measured.get_mut(watcher.name) {
                *cost -= nothing;
            }
        }
    }
    if counted.per_exit.len() != watchers.len() {
        bail!("{} results of {}", counted.per_exit.len(), watchers.len());
    }
    Ok(counted)
}

/// Instructions by exits: all of the vCPUs' threads, or where there is more than one CPU those of most exits.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_exit(guest: &Value, cpus: u32) -> Result<f64> {
    let (mut exits, mut instructions) = (0, 0);
    for vm in guest["vms"].as_array().context("no VMs")? {
        for vcpu in vm["vcpus"].as_array().context("no vCPUs")? {
            let number = |key: &str| vcpu[key].as_u64().with_context(|| format!("no {key}"));
            instructions += if cpus == 1 {
                number("cpu_ns")?
            } else {
                number("between_returns_ns")? * number("userspace_exits_total")?
            };
            let reasons = vcpu["kvm_exits"].as_object().context("no exits")?;
            exits += reasons.values().filter_map(Value::as_u64).sum::<u64>();
        }
    }
    Ok(instructions as f64 / exits as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::watchers::ALL;

    fn guest(vcpus: &[(u64, u64)]) -> Value {
        let vcpus: Vec<_> = vcpus
            .iter()
            .map(|(cpu_ns, between_ns)| {
                serde_json::json!({
                    "cpu_ns": cpu_ns,
                    "between_returns_ns": between_ns,
                    "userspace_exits_total": 5,
                    "kvm_exits": { "IO": 6, "CPUID": 4 },
                })
            })
            .collect();
        serde_json::json!({ "vms": [{ "vcpus": vcpus }] })
    }

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value}");
    }

    #[test]
    fn one_cpus_instructions_are_the_threads_own() {
        near(per_exit(&guest(&[(300, 50)]), 1).unwrap(), 30.0);
        near(per_exit(&guest(&[(300, 50), (300, 70)]), 2).unwrap(), 30.0);
        assert!(per_exit(&serde_json::json!({ "vms": [{ "vcpus": [{}] }] }), 1).is_err());
    }

    #[test]
    fn what_a_watcher_costs_is_what_an_exit_takes_more() {
        let text = format!(
            "bench-kernel 6.12.1\n{RESULT} 0 1 {}\n{RESULT} 0 2 {}\n{RESULT} 1 1 {}\n{RESULT} 1 2 {}\n",
            guest(&[(0, 20)]),
            guest(&[(0, 20), (0, 22)]),
            guest(&[(0, 30)]),
            guest(&[(0, 32), (0, 34)]),
        );
        let counted = read(&text, &ALL[..2], 2).unwrap();
        let name = ALL[1].name;
        near(counted.one_vcpu["nothing"], 10.0);
        near(counted.one_vcpu[name], 5.0);
        near(counted.per_exit["nothing"], 10.5);
        near(counted.per_exit[name], 6.0);
        assert!(read(&text, &ALL[..3], 2).is_err(), "one is missing");
    }
}
