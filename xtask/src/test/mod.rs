//! `cargo xtask test`: all tests, wherever they can run, and one summary of them.

mod report;

use std::{
    io::{self, Write},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;

use crate::{
    apt, build_ebpf, cargo, collector,
    process::{self, say},
    vm::{PreparedVm, Series, Vm},
};
use report::{Counts, Part};

/// `perf kvm stat` and `perf stat` watch the same events as the collector. Debian 12's perf reads the events of all kernels here.
const PERF: &str = "linux-perf";

/// What is a terminal for the tests of `top`.
const TMUX: &str = "tmux";

/// Without its locale, tmux does not start.
const LOCALE: &str = "libc-bin";

/// The report in HTML is looked at with it. Debian's package and its program have the same name.
const CHROMIUM: &str = "chromium";

/// Where the live tests lie in the VM.
const LIVE_IN_VM: &str = "/bin/live";

/// How long the live tests may take. They take ten minutes, and twice that where two VMs share two busy CPUs.
const TIMEOUT: Duration = Duration::from_secs(2400);

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Only what runs on this machine itself
    #[arg(long, conflicts_with = "vm_only")]
    host_only: bool,
    /// Only what runs in the VM
    #[arg(long)]
    vm_only: bool,
    /// Only the VM with this kernel
    #[arg(long, value_enum)]
    kernel: Option<Series>,
}

pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    let mut parts = Vec::new();
    if !args.vm_only {
        parts.push(on_host()?);
    }
    if !args.host_only {
        let kernels = args.kernel.map_or(Series::ALL.to_vec(), |one| vec![one]);
        parts.extend(in_vms(&kernels)?);
    }
    let total = summarize(&parts, &mut io::stdout())?;
    let vm_was_skipped = !args.host_only && !parts.iter().any(|it| it.in_vm && it.part.ran());
    if vm_was_skipped {
        // Before the last line, which is the sum and nothing else.
        say!("failed: no test ran in a VM; `--host-only` does without");
    }
    println!("{total}");
    Ok(if total.failed > 0 || vm_was_skipped {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

#[derive(Debug)]
struct Tested {
    part: Part,
    in_vm: bool,
}

fn on_host() -> Result<Tested> {
    build_ebpf::run()?;
    for (program, what) in [
        (TMUX, "a test of `top` in a terminal"),
        (CHROMIUM, "looking at the report in HTML"),
    ] {
        if process::find(program).is_none()
            && let Err(error) = apt::install(&[program], what)
        {
            // Its tests say that they are skipped, and why.
            say!("{error:#}");
        }
    }
    say!("tests on this machine");
    let mut output = Tee::shown(true);
    let ended_well = stream(cargo::cargo().args(["test", "--no-fail-fast"]), &mut output)?;
    Ok(Tested {
        part: Part::from_output("host".to_owned(), &output.text(), ended_well),
        in_vm: false,
    })
}

/// All of them at once: each is emulated by one thread. What the first prints is shown as it comes, then that of the others.
fn in_vms(kernels: &[Series]) -> Result<Vec<Tested>> {
    let built = collector::build_static()?;
    let mut prepared = Vec::new();
    for (index, &kernel) in kernels.iter().enumerate() {
        let mut vm = Vm::new(kernel);
        vm.timeout = TIMEOUT;
        let vm = vm
            .with_file(&built.collector, collector::IN_VM)
            .with_file(&built.live_tests, LIVE_IN_VM)
            .with_extra(PERF)
            .with_extra(TMUX)
            .with_extra(LOCALE);
        prepared.push((kernel, vm.prepare(), Tee::shown(index == 0)));
    }
    let parts = thread::scope(|scope| {
        let start = |(kernel, vm, output)| scope.spawn(move || in_vm(kernel, vm, output));
        let running: Vec<_> = prepared.into_iter().map(start).collect();
        let ended = running.into_iter().map(|it| it.join());
        ended.collect::<thread::Result<Vec<_>>>()
    });
    let parts = parts.map_err(|_| anyhow!("a thread that runs a VM panicked"))?;
    Ok(parts
        .into_iter()
        .map(|part| Tested { part, in_vm: true })
        .collect())
}

fn in_vm(kernel: Series, vm: Result<PreparedVm>, mut output: Tee) -> Part {
    let mut name = format!("VM {}", kernel.name());
    let vm = match vm {
        Ok(vm) => vm,
        Err(err) => return Part::skipped(name, &format!("{err:#}")),
    };
    say!("tests on Linux {} with kvm_amd, in the VM", kernel.name());
    let mut run = || {
        output.bytes.clear();
        vm.run(&[LIVE_IN_VM.to_owned()], &mut output)
    };
    let ran = run().or_else(|err| {
        // The emulator's fault, as a rule: it does not get every patched instruction of a kernel right. A failing test is
        // another thing, and is not tried again.
        say!("{err:#}");
        say!("the VM died, which is no test's result: once more");
        name.push_str(" (in a second VM; the first died)");
        run()
    });
    output.show();
    match ran {
        Ok(code) => Part::from_output(name, &output.text(), code == 0),
        Err(err) => {
            say!("{err:#}");
            let first_line = err
                .to_string()
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned();
            Part::failed(name, &first_line)
        }
    }
}

/// All but the last line of the summary.
fn summarize(parts: &[Tested], out: &mut dyn Write) -> Result<Counts> {
    let mut total = Counts::default();
    writeln!(out, "\nsummary")?;
    for Tested { part, .. } in parts {
        writeln!(out, "  {:8} {}", part.name, part.counts)?;
        total.add(part.counts);
    }
    list(out, "skipped", parts, |part| &part.skips)?;
    list(out, "failed", parts, |part| &part.failures)?;
    Ok(total)
}

fn list(
    out: &mut dyn Write,
    title: &str,
    parts: &[Tested],
    lines: fn(&Part) -> &[String],
) -> Result<()> {
    if parts.iter().all(|it| lines(&it.part).is_empty()) {
        return Ok(());
    }
    writeln!(out, "{title}")?;
    for Tested { part, .. } in parts {
        for line in lines(part) {
            writeln!(out, "  {:8} {line}", part.name)?;
        }
    }
    Ok(())
}

/// Runs `command`, its stdout into `output` as it comes; whether it was successful.
fn stream(command: &mut Command, output: &mut dyn Write) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().context("the output is piped")?;
    io::copy(&mut stdout, output)?;
    Ok(child.wait()?.success())
}

/// Keeps what is written to it, and shows it: at once, or in the end.
#[derive(Debug)]
struct Tee {
    bytes: Vec<u8>,
    at_once: bool,
}

impl Tee {
    fn shown(at_once: bool) -> Self {
        Self {
            bytes: Vec::new(),
            at_once,
        }
    }

    fn show(&self) {
        if !self.at_once {
            print!("\n{}", self.text());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.at_once {
            io::stdout().write_all(bytes)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
