//! The deterministic part: in a VM whose clock counts instructions, what watching costs a guest per exit.
//!
//! The guest's vCPU thread says how much CPU time it took, by its own clock, so what the watcher itself does on the CPU meanwhile is
//! not in it.

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
    vm::{Series, Vm},
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
    /// Instructions an exit takes more with each watcher than with nobody watching, by its name; with nobody, all it takes.
    pub(crate) per_exit: BTreeMap<&'static str, f64>,
}

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
    let vm = vm.prepare()?;
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
    let counted =
        read(&output, watchers).with_context(|| format!("in what the VM printed:\n{output}"))?;
    Ok(Counted { cpus, ..counted })
}

/// The shell's part: each watcher in turn, and the guest while it watches.
fn script(watchers: &[Watcher], cpus: u32) -> String {
    let cpu_list: Vec<_> = (0..cpus).map(|cpu| cpu.to_string()).collect();
    let guest = format!(
        "kvm-collector guest -k io,cpuid -n {ROUNDS} --vcpus {cpus} --cpu {} --json",
        cpu_list.join(",")
    );
    let mut script = String::from("uname -r | sed 's/^/bench-kernel /'\n");
    for program in ["perf --version", "trace-cmd -V", "bpftrace --version"] {
        let _ = writeln!(
            script,
            "{program} 2>&1 | grep -i version | head -1 | sed 's/^/bench-version /'"
        );
    }
    // Once for nothing, so that everything is in memory.
    let _ = writeln!(script, "{guest} > /dev/null");
    for (index, Watcher { name, command, .. }) in watchers.iter().enumerate() {
        // A shell of its own, in the background; its input stays open.
        let _ = writeln!(
            script,
            "mkfifo /tmp/in{index}; sleep 100000 > /tmp/in{index} & holder=$!\n\
             sh -c {} < /tmp/in{index} > /tmp/out 2>&1 & watcher=$!\n\
             sleep 20; kill -0 $watcher 2> /dev/null || {{ echo \"{name} ended at once:\"; tail -3 /tmp/out; exit 1; }}\n\
             printf '{RESULT} {index} '; {guest} | tail -1\n\
             kill -INT $watcher; sleep 1; kill $holder; sleep 1; kill $watcher 2> /dev/null; wait $watcher\n\
             echo 0 > /sys/kernel/tracing/events/enable; sleep 2",
            quoted(&format!("exec {}", only_command(command)))
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
        let results = text.lines().filter(|line| line.starts_with(RESULT)).count();
        for number in self.said..results.min(self.watchers.len()) {
            let name = self.watchers[number].name;
            say!("{} of {}: {name}", number + 1, self.watchers.len());
        }
        self.said = results;
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

fn read(output: &str, watchers: &[Watcher]) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut nothing = None;
    for line in output.lines() {
        if let Some(kernel) = line.strip_prefix("bench-kernel ") {
            counted.kernel = kernel.trim().to_owned();
        } else if let Some(version) = line.strip_prefix("bench-version ") {
            counted.versions.push(version.trim().to_owned());
        } else if let Some(result) = line.strip_prefix(RESULT) {
            let (index, guest) = result.trim().split_once(' ').context("no result")?;
            let watcher = watchers
                .get(index.parse::<usize>()?)
                .context("no watcher")?;
            let per_exit = per_exit(&serde_json::from_str(guest)?)?;
            let base = *nothing.get_or_insert(per_exit);
            let own = if watcher.name == "nothing" {
                base
            } else {
                per_exit - base
            };
            counted.per_exit.insert(watcher.name, own);
        }
    }
    if counted.per_exit.len() != watchers.len() {
        bail!("{} results of {}", counted.per_exit.len(), watchers.len());
    }
    Ok(counted)
}

/// Instructions of all vCPU threads by their exits.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn per_exit(guest: &Value) -> Result<f64> {
    let (mut exits, mut instructions) = (0, 0);
    for vm in guest["vms"].as_array().context("no VMs")? {
        for vcpu in vm["vcpus"].as_array().context("no vCPUs")? {
            instructions += vcpu["cpu_ns"].as_u64().context("no cpu_ns")?;
            let reasons = vcpu["kvm_exits"].as_object().context("no exits")?;
            exits += reasons.values().filter_map(Value::as_u64).sum::<u64>();
        }
    }
    Ok(instructions as f64 / exits as f64)
}
