//! Measures how many more instructions an exit takes with each tool, in a VM with a clock that counts instructions.
//!
//! The guest reports the CPU time of its vCPU thread, which does not include the tool's process. A VM with several CPUs has
//! one clock for all of them, which also advances while another CPU is emulated. But QEMU emulates thousands of instructions
//! of one CPU at a time, so the median time between two exits to user space contains no instruction of other CPUs.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::tools::Tool;
use crate::{
    architecture::Architecture,
    collector,
    process::info,
    vm::{PreparedVm, Series, Vm},
};

/// Number of rounds of the guest. A round is one `out`, which user space handles, and one `cpuid`, which the kernel handles.
const ROUNDS: u64 = 2000;

/// Prefix of the lines with results in the output of the script.
const RESULT: &str = "bench-result";

/// Results of one VM.
#[derive(Debug, Default)]
pub(crate) struct InstructionCosts {
    /// Release of the VM's kernel, from `uname -r`.
    pub(crate) kernel: String,
    /// Versions of the other tools.
    pub(crate) versions: Vec<String>,
    pub(crate) cpus: u32,
    /// Costs with a guest that has one vCPU on each CPU.
    pub(crate) per_exit: PerExit,
    /// Costs with a guest that has one vCPU, if the VM has several CPUs.
    pub(crate) one_vcpu: PerExit,
}

/// By tool name: how many more instructions an exit takes than without a tool. For the baseline, all instructions of an exit.
pub(crate) type PerExit = BTreeMap<&'static str, f64>;

/// Measures the tools, of which the first is the baseline.
pub(crate) fn run(kernel: Series, cpus: u32, tools: &[Tool]) -> Result<InstructionCosts> {
    let built = collector::build_static(Architecture::Amd64)?;
    let mut vm = Vm::new(kernel)
        .with_file(&built.collector, collector::PATH_IN_VM)
        .with_file(&built.empty_programs, "/bin/empty_programs");
    vm.cpus = cpus;
    vm.counts_instructions = true;
    // The file system is in memory. It includes bpftrace with LLVM.
    vm.memory_mib = 3072;
    vm.timeout = Duration::from_secs(1800);
    let mut packages: Vec<&str> = tools.iter().filter_map(|tool| tool.package).collect();
    packages.dedup();
    vm.packages = packages
        .iter()
        .map(|package| (*package).to_owned())
        .collect();
    let vm = PreparedVm::fetch(vm)?;
    info!("counting instructions on Linux {}", kernel.name());
    let mut output = Output {
        tools,
        text: Vec::new(),
        reported: 0,
    };
    let script = format_script(tools, cpus);
    let code = vm.run(&["sh".to_owned(), "-c".to_owned(), script], &mut output)?;
    let output = String::from_utf8_lossy(&output.text).into_owned();
    ensure!(code == 0, "the measurement failed:\n{output}");
    parse_results(&output, tools, cpus)
        .with_context(|| format!("in the output of the VM:\n{output}"))
}

/// Returns the shell script, which runs each tool in turn, and the guest while the tool runs.
fn format_script(tools: &[Tool], cpus: u32) -> String {
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
    // A first run without a measurement fills the caches.
    let _ = writeln!(script, "{} > /dev/null", guest(cpus));
    for (index, Tool { name, command, .. }) in tools.iter().enumerate() {
        // The tool runs in the background. Its standard input stays open.
        let _ = writeln!(
            script,
            "mkfifo /tmp/in{index}; sleep 100000 > /tmp/in{index} & stdin_holder=$!\n\
             sh -c {} < /tmp/in{index} > /tmp/out 2>&1 & tool=$!\n\
             sleep 20; kill -0 $tool 2> /dev/null || {{ echo \"{name} ended at once:\"; tail -3 /tmp/out; exit 1; }}",
            quote(&format!("exec {}", as_single_command(command)))
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
            "kill -INT $tool; sleep 1; kill $stdin_holder; sleep 1; kill $tool 2> /dev/null; wait $tool\n\
             echo 0 > /sys/kernel/tracing/events/enable; sleep 2"
        );
    }
    script.push_str("exit 0\n");
    script
}

/// Stores the output of the VM and prints the progress.
struct Output<'a> {
    tools: &'a [Tool],
    text: Vec<u8>,
    reported: usize,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        let text = String::from_utf8_lossy(&self.text);
        let last = text.lines().rfind(|line| line.starts_with(RESULT));
        let index = last.and_then(|line| line[RESULT.len()..].split_whitespace().next());
        let finished = index.map_or(0, |index| {
            index.parse::<usize>().map_or(0, |index| index + 1)
        });
        for number in self.reported..finished.min(self.tools.len()) {
            let name = self.tools[number].name;
            info!("{} of {}: {name}", number + 1, self.tools.len());
        }
        self.reported = finished;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Wraps a list of commands in a shell, because `exec` takes only one command.
fn as_single_command(command: &str) -> String {
    if command.contains(';') && !command.starts_with("bpftrace") {
        format!("sh -c {}", quote(command))
    } else {
        command.to_owned()
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn parse_results(output: &str, tools: &[Tool], cpus: u32) -> Result<InstructionCosts> {
    let mut costs = InstructionCosts {
        cpus,
        ..InstructionCosts::default()
    };
    for line in output.lines() {
        if let Some(kernel) = line.strip_prefix("bench-kernel ") {
            costs.kernel = kernel.trim().to_owned();
        } else if let Some(version) = line.strip_prefix("bench-version ") {
            costs.versions.push(version.trim().to_owned());
        } else if let Some(result) = line.strip_prefix(RESULT) {
            let mut parts = result.trim().splitn(3, ' ');
            let mut part = || parts.next().context("no result");
            let (index, vcpus, guest) = (part()?, part()?, part()?);
            let tool = tools.get(index.parse::<usize>()?).context("no tool")?;
            let per_exit_costs = if vcpus.parse::<u32>()? == cpus {
                &mut costs.per_exit
            } else {
                &mut costs.one_vcpu
            };
            per_exit_costs.insert(tool.name, per_exit(&serde_json::from_str(guest)?, cpus)?);
        }
    }
    for per_exit_costs in [&mut costs.per_exit, &mut costs.one_vcpu] {
        let baseline = per_exit_costs
            .get(tools[0].name)
            .copied()
            .unwrap_or_default();
        for tool in &tools[1..] {
            if let Some(cost) = per_exit_costs.get_mut(tool.name) {
                *cost -= baseline;
            }
        }
    }
    if costs.per_exit.len() != tools.len() {
        bail!("{} results of {}", costs.per_exit.len(), tools.len());
    }
    Ok(costs)
}

/// Returns the instructions per exit. With several CPUs, they are computed from the median time between two exits to user
/// space.
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
    use crate::bench::tools::ALL;

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

    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-9, "{value}");
    }

    #[test]
    fn with_one_cpu_the_threads_cpu_time_counts() {
        assert_near(per_exit(&guest(&[(300, 50)]), 1).unwrap(), 30.0);
        assert_near(per_exit(&guest(&[(300, 50), (300, 70)]), 2).unwrap(), 30.0);
        assert!(per_exit(&serde_json::json!({ "vms": [{ "vcpus": [{}] }] }), 1).is_err());
    }

    #[test]
    fn the_cost_of_a_tool_is_its_difference_from_the_baseline() {
        let text = format!(
            "bench-kernel 6.12.1\n{RESULT} 0 1 {}\n{RESULT} 0 2 {}\n{RESULT} 1 1 {}\n{RESULT} 1 2 {}\n",
            guest(&[(0, 20)]),
            guest(&[(0, 20), (0, 22)]),
            guest(&[(0, 30)]),
            guest(&[(0, 32), (0, 34)]),
        );
        let costs = parse_results(&text, &ALL[..2], 2).unwrap();
        let name = ALL[1].name;
        assert_near(costs.one_vcpu["no tool"], 10.0);
        assert_near(costs.one_vcpu[name], 5.0);
        assert_near(costs.per_exit["no tool"], 10.5);
        assert_near(costs.per_exit[name], 6.0);
        assert!(
            parse_results(&text, &ALL[..3], 2).is_err(),
            "a result is missing"
        );
    }
}
