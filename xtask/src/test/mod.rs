//! `cargo xtask test`: runs all tests on the host and in VMs, and prints one summary.

mod environment;
mod repeat;
mod report;
mod support;
mod unfinished;

use std::{
    collections::VecDeque,
    io::{self, Write},
    num::NonZero,
    process::{Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use crate::{
    apt,
    architecture::Architecture,
    build_ebpf, cargo,
    collector::{self, StaticBuild},
    process::{self, info},
    vm::{Machine, PreparedVm, Series},
};
use environment::{Environment, Selection};
use report::{Counts, Part};
use support::Support;
use unfinished::UnfinishedRun;

/// Package of `perf`, the reference tool: tests compare its counts and times of the same events.
const PERF: &str = "linux-perf";

/// Package of tmux, the terminal in tests of `top`.
const TMUX: &str = "tmux";

/// Package with the locale that tmux needs to start.
const LOCALE: &str = "libc-bin";

/// The browser in tests of the HTML report: the name of the package and of the program.
const CHROMIUM: &str = "chromium";

/// Package and program of Java, with which Spark runs the queries of docs/fleet.md.
const JAVA: (&str, &str) = ("default-jre-headless", "java");

/// Seconds that each fuzz target runs. `cargo test` alone runs them shorter.
const FUZZ_SECONDS: &str = "30";

/// Path of the live tests in the VM.
const LIVE_IN_VM: &str = "/bin/live";

/// Run the tests on this host and, with each vendor's KVM and several kernels, in VMs, and print one summary
///
/// Plain `cargo test` runs the tests that need neither root nor a VM. This command builds the eBPF programs first, and also
/// boots VMs: two run all live tests on a real kvm_amd, of Linux 6.1 and 6.12, one runs Linux in QEMU, and the others run the
/// core set of the live tests, on a real kvm_intel and on other kernels, from 5.10 to the newest one of Debian.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask test                          all tests
  cargo xtask test recording                tests with `recording` in their name
  cargo xtask test --host-only docs         the same for `docs`, without VMs
  cargo xtask test --kernel 6.1 --vm-only   live tests on one kernel
  cargo xtask test --machine vmx --vm-only  core set of the live tests with kvm_intel
  cargo xtask test --all                    all tests everywhere, which takes hours")]
pub(crate) struct TestArgs {
    /// Run only tests with this text in their name
    #[arg(value_name = "FILTER")]
    filter: Option<String>,
    /// Run only the tests on this host
    #[arg(long, conflicts_with_all = ["vm_only", "kernel", "machine"])]
    host_only: bool,
    /// Run only the tests in VMs
    #[arg(long)]
    vm_only: bool,
    /// Use only the VMs with this kernel
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// Use only the VMs with this machine
    #[arg(long, value_enum)]
    machine: Option<Machine>,
    /// Run all live tests in each VM, not only the core set
    #[arg(long, conflicts_with = "host_only")]
    all: bool,
    /// Write what the live tests show into docs/support.md
    #[arg(long, conflicts_with_all = ["filter", "host_only", "kernel", "machine"])]
    write_support: bool,
}

pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    let environments = environment::select(Selection {
        machine: args.machine,
        kernel: args.kernel,
        all_tests: args.all,
    });
    if environments.is_empty() {
        bail!(
            "no VM of this command has the selected kernel and machine: leave out --kernel or --machine"
        );
    }
    let mut parts = Vec::new();
    if !args.vm_only {
        parts.push(on_host(args.filter.as_deref())?);
    }
    if !args.host_only {
        parts.extend(in_vms(&environments, args.filter.as_deref())?);
    }
    if args.write_support {
        let in_vms = parts.iter().filter_map(|it| it.in_vm.clone());
        support::write(&in_vms.collect::<Vec<_>>())?;
    }
    let total = summarize(&parts, &mut io::stdout())?;
    let error = missing_tests(args, &parts);
    // The last line of the output is the total, so errors come first.
    if let Some(error) = &error {
        info!("failed: {error}");
    }
    println!("{total}");
    Ok(if total.failed > 0 || error.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Returns an error if no test ran that should have: a summary of nothing must not look like success.
fn missing_tests(args: &TestArgs, parts: &[EnvironmentResults]) -> Option<String> {
    let has_run = |in_vm: bool| {
        parts
            .iter()
            .any(|part| part.in_vm.is_some() == in_vm && part.part.has_run())
    };
    let can_match_in_vm = parts
        .iter()
        .any(|part| part.in_vm.is_some() && part.part.counts.skipped == 0);
    match &args.filter {
        Some(filter) if !has_run(false) && !has_run(true) => Some(format!(
            "no test ran: no name contains `{filter}`, or all such tests were skipped"
        )),
        Some(_) if can_match_in_vm => None,
        _ if !args.host_only && !has_run(true) => {
            Some("no test ran in a VM; use `--host-only` to run the tests on this host".to_owned())
        }
        _ => None,
    }
}

/// Results of the host or of a VM.
#[derive(Debug)]
struct EnvironmentResults {
    part: Part,
    /// The VM, and what its tests show.
    in_vm: Option<(Environment, Support)>,
}

fn on_host(filter: Option<&str>) -> Result<EnvironmentResults> {
    build_ebpf::run()?;
    for (package, program, purpose) in [
        (TMUX, TMUX, "a test of `top` in a terminal"),
        ("jq", "jq", "tests of docs/cookbook.md"),
        (CHROMIUM, CHROMIUM, "tests of the HTML report in a browser"),
        (JAVA.0, JAVA.1, "tests of docs/fleet.md with Spark"),
    ] {
        if process::find_program(program).is_none()
            && let Err(error) = apt::install(&[package], purpose)
        {
            // The tests that need it are reported as skipped, with the reason.
            info!("{error:#}");
        }
    }
    info!("running the tests on this host");
    let mut output = Tee::new(true);
    let mut cargo = cargo::cargo();
    cargo
        .args(["test", "--no-fail-fast"])
        .args(filter)
        .env("KVM_COLLECTOR_FUZZ_SECONDS", FUZZ_SECONDS);
    let succeeded = stream(&mut cargo, &mut output)?;
    Ok(EnvironmentResults {
        part: Part::from_output("host".to_owned(), &output.text(), succeeded),
        in_vm: None,
    })
}

/// Runs the live tests in these VMs, as many at the same time as this host has CPUs. Shows the output of the first one as it
/// runs, and then that of the others.
fn in_vms(environments: &[Environment], filter: Option<&str>) -> Result<Vec<EnvironmentResults>> {
    let mut prepared = VecDeque::new();
    for (index, &environment) in environments.iter().enumerate() {
        let architecture = environment.machine.architecture();
        let vm = match collector::check_static(architecture) {
            // An error of the compiler is not a reason to skip tests.
            Ok(()) => prepare_vm(environment, &collector::build_static(architecture)?),
            Err(error) => Err(error),
        };
        prepared.push_back((index, environment, vm));
    }
    let waiting = Mutex::new(prepared);
    let next = || waiting.lock().ok()?.pop_front();
    let run_several = || {
        let mut parts = Vec::new();
        while let Some((index, environment, vm)) = next() {
            let output = Tee::new(index == 0);
            parts.push((index, in_vm(environment, vm, filter, output)));
        }
        parts
    };
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let parts = thread::scope(|scope| {
        // Tests that wait leave their CPU to another VM, so at least two VMs run.
        let running: Vec<_> = (0..cpus.max(2)).map(|_| scope.spawn(run_several)).collect();
        let ended = running.into_iter().map(|thread| thread.join());
        ended.collect::<thread::Result<Vec<_>>>()
    });
    let parts = parts.map_err(|_| anyhow!("a thread that runs a VM panicked"))?;
    let mut parts: Vec<_> = parts.into_iter().flatten().collect();
    parts.sort_by_key(|(index, _)| *index);
    Ok(parts.into_iter().map(|(_, results)| results).collect())
}

/// Fetches what a VM needs.
///
/// # Errors
/// Those of [`PreparedVm::fetch`].
fn prepare_vm(environment: Environment, built: &StaticBuild) -> Result<PreparedVm> {
    let mut vm = environment
        .vm()
        .with_file(&built.collector, collector::PATH_IN_VM)
        .with_file(&built.live_tests, LIVE_IN_VM);
    if environment.machine.architecture() == Architecture::Amd64 {
        vm = vm
            .with_extra(PERF)
            .with_extra(TMUX)
            .with_extra(LOCALE)
            .with_extra_file("util-linux", "usr/bin/setpriv");
    }
    PreparedVm::fetch(vm)
}

fn in_vm(
    environment: Environment,
    vm: Result<PreparedVm>,
    filter: Option<&str>,
    mut output: Tee,
) -> EnvironmentResults {
    let name = environment.name();
    let vm = match vm {
        Ok(vm) => vm,
        Err(err) => {
            return EnvironmentResults {
                part: Part::skipped(name, &format!("{err:#}")),
                in_vm: Some((environment, Support::default())),
            };
        }
    };
    let kernel = environment.kernel.name();
    let module = environment.machine.kvm_module().unwrap_or("KVM");
    info!("running the live tests on Linux {kernel} with {module}, in a VM");
    let mut part = match run_live_tests(environment, &vm, &name, filter, &[], &mut output) {
        Ok(part) => part,
        Err(err) => {
            // The emulators have errors: now and then a VM hangs or its kernel panics. The remaining
            // tests get another VM.
            let unfinished = UnfinishedRun::parse(&output.text());
            info!("{err:#}");
            info!(
                "the VM with Linux {kernel} and {module} died after {} tests; another VM runs the rest",
                unfinished.finished.len()
            );
            let name = format!("{name} (in two VMs; the first died)");
            // Names of tests can only be excluded exactly if no filter is given.
            let is_resumable = filter.is_none();
            let done = if is_resumable {
                &unfinished.finished[..]
            } else {
                &[]
            };
            let rest = run_live_tests(environment, &vm, &name, filter, done, &mut output);
            let mut part = rest.unwrap_or_else(|err| {
                info!("{err:#}");
                let text = err.to_string();
                Part::failed(name, text.lines().next().unwrap_or_default())
            });
            if is_resumable {
                unfinished.add_to(&mut part);
            }
            part
        }
    };
    if filter.is_none() {
        repeat_failed(environment, &vm, &mut part, &mut output);
    }
    output.show();
    EnvironmentResults {
        part,
        in_vm: Some((environment, Support::parse(&output.text()))),
    }
}

/// Repeats the tests that failed, if they are few.
fn repeat_failed(environment: Environment, vm: &PreparedVm, part: &mut Part, output: &mut Tee) {
    let mut others = UnfinishedRun::parse(&output.text()).finished;
    let failed = repeat::failed_tests(part, &others);
    if failed.is_empty() {
        return;
    }
    info!("repeating in another VM: {}", failed.join(", "));
    others.retain(|name| !failed.contains(name));
    match run_live_tests(environment, vm, &part.name, None, &others, output) {
        Ok(second) => repeat::add_second_results(part, &failed, &second),
        Err(err) => info!("{err:#}"),
    }
}

/// Boots the VM and runs the live tests that match the filter and are not in `done`.
///
/// # Errors
/// If the VM dies or hangs.
fn run_live_tests(
    environment: Environment,
    vm: &PreparedVm,
    name: &str,
    filter: Option<&str>,
    done: &[String],
    output: &mut Tee,
) -> Result<Part> {
    let mut command = environment.command(LIVE_IN_VM);
    command.extend(filter.map(str::to_owned));
    if !done.is_empty() {
        command.push("--exact".to_owned());
    }
    for test in done {
        command.extend(["--skip".to_owned(), test.clone()]);
    }
    let start = output.bytes.len();
    let code = vm.run(&command, output)?;
    let text = String::from_utf8_lossy(&output.bytes[start..]);
    Ok(Part::from_output(name.to_owned(), &text, code == 0))
}

/// Prints the summary without its last line, the total. Returns the total.
fn summarize(parts: &[EnvironmentResults], out: &mut dyn Write) -> Result<Counts> {
    let mut total = Counts::default();
    writeln!(out, "\nsummary")?;
    for EnvironmentResults { part, .. } in parts {
        writeln!(out, "  {:8} {}", part.name, part.counts)?;
        total.add(part.counts);
    }
    write_times(parts, out)?;
    list(out, "skipped", parts, |part| &part.skips)?;
    list(
        out,
        "failed at first, passed when repeated",
        parts,
        |part| &part.passed_when_repeated,
    )?;
    list(out, "failed", parts, |part| &part.failures)?;
    Ok(total)
}

/// Prints a table of the test programs, the slowest first.
fn write_times(parts: &[EnvironmentResults], out: &mut dyn Write) -> Result<()> {
    let groups = parts.iter().flat_map(|results| {
        results
            .part
            .groups
            .iter()
            .map(|group| (&results.part.name, group))
    });
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.elapsed));
    writeln!(
        out,
        "time by group\n  {:>9}  {:>6} {:>6} {:>7}  group",
        "seconds", "passed", "failed", "skipped"
    )?;
    for (part, group) in groups {
        let Counts {
            passed,
            failed,
            skipped,
        } = group.counts;
        let seconds = group.elapsed.as_secs_f64();
        writeln!(
            out,
            "  {seconds:>9.2}  {passed:>6} {failed:>6} {skipped:>7}  {part}: {}",
            group.name
        )?;
    }
    Ok(())
}

fn list(
    out: &mut dyn Write,
    title: &str,
    parts: &[EnvironmentResults],
    lines: fn(&Part) -> &[String],
) -> Result<()> {
    if parts.iter().all(|results| lines(&results.part).is_empty()) {
        return Ok(());
    }
    writeln!(out, "{title}")?;
    for EnvironmentResults { part, .. } in parts {
        for line in lines(part) {
            writeln!(out, "  {:8} {line}", part.name)?;
        }
    }
    Ok(())
}

/// Runs a command and copies its stdout and stderr to `output`. Returns whether it succeeded.
///
/// cargo prints the names of test programs on stderr. One pipe keeps both in order.
fn stream(command: &mut Command, output: &mut dyn Write) -> Result<bool> {
    let (mut reader, writer) = io::pipe().context("cannot create a pipe")?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds the write end until it is dropped or replaced.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    io::copy(&mut reader, output)?;
    Ok(child.wait()?.success())
}

/// Stores the output that is written to it, and prints it at once or later.
#[derive(Debug)]
struct Tee {
    bytes: Vec<u8>,
    shows_at_once: bool,
}

impl Tee {
    fn new(shows_at_once: bool) -> Self {
        Self {
            bytes: Vec::new(),
            shows_at_once,
        }
    }

    fn show(&self) {
        if !self.shows_at_once {
            print!("\n{}", self.text());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shows_at_once {
            io::stdout().write_all(bytes)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
