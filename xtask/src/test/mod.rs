//! `cargo xtask test`: all tests, wherever they can run, and one summary of them.

mod report;

use std::{
    io::{self, Write},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result};
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

/// The report in HTML is looked at with it. Debian's package and its program have the same name.
const CHROMIUM: &str = "chromium";

/// Where the live tests lie in the VM.
const LIVE_IN_VM: &str = "/bin/live";

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
    let mut output = Tee::default();
    let ended_well = stream(cargo::cargo().args(["test", "--no-fail-fast"]), &mut output)?;
    Ok(Tested {
        part: Part::from_output("host".to_owned(), &output.text(), ended_well),
        in_vm: false,
    })
}

fn in_vms(kernels: &[Series]) -> Result<Vec<Tested>> {
    let built = collector::build_static()?;
    Ok(kernels
        .iter()
        .map(|&kernel| Tested {
            part: in_vm(kernel, &built),
            in_vm: true,
        })
        .collect())
}

fn in_vm(kernel: Series, built: &collector::StaticBuild) -> Part {
    let mut name = format!("VM {}", kernel.name());
    let vm = Vm::new(kernel)
        .with_file(&built.collector, collector::IN_VM)
        .with_file(&built.live_tests, LIVE_IN_VM)
        .with_extra(PERF);
    let vm = match vm.prepare() {
        Ok(vm) => vm,
        Err(err) => return Part::skipped(name, &format!("{err:#}")),
    };
    say!("tests on Linux {} with kvm_amd, in the VM", kernel.name());
    let ran = run_live(&vm).or_else(|err| {
        // The emulator's fault, as a rule: it does not get every patched instruction of a kernel right. A failing test is
        // another thing, and is not tried again.
        say!("{err:#}");
        say!("the VM died, which is no test's result: once more");
        name.push_str(" (in a second VM; the first died)");
        run_live(&vm)
    });
    match ran {
        Ok((output, code)) => Part::from_output(name, &output, code == 0),
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

/// What the live tests print, and their exit code.
fn run_live(vm: &PreparedVm) -> Result<(String, u8)> {
    let mut output = Tee::default();
    let code = vm.run(&[LIVE_IN_VM.to_owned()], &mut output)?;
    Ok((output.text(), code))
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

/// Shows what is written to it, and keeps it.
#[derive(Debug, Default)]
struct Tee {
    bytes: Vec<u8>,
}

impl Tee {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write_all(bytes)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
