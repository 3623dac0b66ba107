//! `cargo xtask vm`: runs a command or a shell in a disposable VM.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;

use super::{GuestFile, Machine, PreparedVm, Series, Vm};
use crate::{collector, process::info};

#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    /// Virtualization extension of the processor
    #[arg(long, value_enum, default_value = "svm")]
    machine: Machine,
    /// Linux version [default: 6.12; 6.1 with vmx]
    #[arg(long, value_enum)]
    kernel: Option<Series>,
    /// Number of CPUs [default: 2; 1 with vmx]
    #[arg(long)]
    smp: Option<u32>,
    /// Number of CPUs for which the kernel keeps tables, as if more than --smp could be added; only with --kernel 5.10
    /// or 6.1, and svm [default: that of --smp]
    #[arg(long)]
    possible_cpus: Option<u32>,
    /// Memory in MiB [default: 1024; 512 with vmx]
    #[arg(long)]
    memory: Option<u32>,
    /// Copy a file into the VM, to DEST or to /root. With DEST /bin/kvm-collector, no collector is built
    #[arg(long, value_name = "FILE[:DEST]")]
    with: Vec<GuestFile>,
    /// Install a Debian package in the VM, with the libraries that it needs
    #[arg(long, value_name = "DEB")]
    with_package: Vec<String>,
    /// Add QEMU, and Linux for its guests: /guest/vmlinuz and /guest/initramfs
    #[arg(long)]
    linux_guest: bool,
    /// Do not load kvm_amd or kvm_intel. On arm64, KVM is built into the kernel
    #[arg(long)]
    no_kvm: bool,
    /// Do not mount tracefs
    #[arg(long)]
    no_tracefs: bool,
    /// Advance the clock by 1 ns per instruction, so that measured times repeat to within 0.1 %
    #[arg(long)]
    icount: bool,
    /// Stop the VM after this many seconds, including the boot
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Command to run [default: a shell, except with vmx]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn run(args: VmArgs) -> Result<ExitCode> {
    check_shell(
        &args,
        io::stdin().is_terminal() && io::stdout().is_terminal(),
    )?;
    let mut vm = configure(&args);
    if needs_collector(&args.with) {
        let built = collector::build_static(args.machine.architecture())?;
        vm = vm.with_file(built.collector, collector::PATH_IN_VM);
    }
    let kernel = vm.kernel.name();
    let vm = PreparedVm::fetch(vm)?;
    match args.machine {
        Machine::Vmx => info!("booting Linux {kernel} in Bochs, which takes about 20 s"),
        Machine::Svm | Machine::Arm64 | Machine::Arm64Nvhe => info!("booting Linux {kernel}"),
    }
    let code = if args.command.is_empty() {
        vm.shell()?
    } else {
        vm.run(&args.command, &mut io::stdout())?
    };
    Ok(ExitCode::from(code))
}

/// Fails if a shell is to run and cannot.
fn check_shell(args: &VmArgs, is_terminal: bool) -> Result<()> {
    if !args.command.is_empty() {
        return Ok(());
    }
    if args.machine == Machine::Vmx {
        bail!(
            "the machine vmx has no terminal for a shell; run a command: `cargo xtask vm --machine vmx -- CMD`"
        );
    }
    if !is_terminal {
        bail!(
            "a shell in the VM needs a terminal; without one, run a command: `cargo xtask vm -- CMD`"
        );
    }
    Ok(())
}

/// Returns whether a collector has to be built, because no file of `--with` replaces it.
fn needs_collector(files: &[GuestFile]) -> bool {
    !files.iter().any(|file| file.guest == collector::PATH_IN_VM)
}

fn configure(args: &VmArgs) -> Vm {
    let machine = args.machine;
    let kernel = args.kernel.unwrap_or(machine.default_kernel());
    let mut default = Vm::with_machine(machine, kernel);
    if args.linux_guest {
        default = default.with_linux_guest();
    }
    Vm {
        cpus: args.smp.unwrap_or(default.cpus),
        possible_cpus: args.possible_cpus,
        memory_mib: args.memory.unwrap_or(default.memory_mib),
        files: args.with.clone(),
        packages: args.with_package.clone(),
        kvm: !args.no_kvm,
        tracefs: !args.no_tracefs,
        counts_instructions: args.icount,
        timeout: Duration::from_secs(args.timeout),
        ..default
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: VmArgs,
    }

    fn parse(words: &str) -> VmArgs {
        let words = ["vm"].into_iter().chain(words.split_whitespace());
        Command::try_parse_from(words).unwrap().args
    }

    #[test]
    fn each_machine_has_its_defaults() {
        let svm = configure(&parse("-- true"));
        assert_eq!(
            (svm.machine, svm.kernel, svm.cpus, svm.memory_mib),
            (Machine::Svm, Series::V6_12, 2, 1024)
        );
        let vmx = configure(&parse("--machine vmx -- true"));
        assert_eq!(
            (vmx.machine, vmx.kernel, vmx.cpus, vmx.memory_mib),
            (Machine::Vmx, Series::V6_1, 1, 512)
        );
        let nvhe = configure(&parse("--machine arm64-nvhe -- true"));
        assert_eq!(
            (nvhe.machine, nvhe.kernel, nvhe.cpus, nvhe.memory_mib),
            (Machine::Arm64Nvhe, Series::V6_12, 2, 1024)
        );
    }

    #[test]
    fn arguments_replace_the_defaults() {
        let words = "--machine vmx --kernel 6.12 --memory 768 --no-kvm --timeout 90 -- true";
        let vm = configure(&parse(words));
        assert_eq!((vm.kernel, vm.memory_mib), (Series::V6_12, 768));
        assert_eq!((vm.kvm, vm.timeout), (false, Duration::from_secs(90)));
    }

    #[test]
    fn a_collector_of_the_user_is_used_as_it_is() {
        let replaced = parse("--with old/kvm-collector:/bin/kvm-collector -- true");
        assert!(!needs_collector(&replaced.with));
        let other = parse("--with old/kvm-collector:/bin/old -- true");
        assert!(needs_collector(&other.with));
    }

    #[test]
    fn a_shell_needs_a_terminal_and_qemu() {
        assert!(check_shell(&parse(""), true).is_ok());
        assert!(check_shell(&parse(""), false).is_err());
        assert!(check_shell(&parse("--machine vmx -- true"), false).is_ok());
        let message = check_shell(&parse("--machine vmx"), true)
            .unwrap_err()
            .to_string();
        assert!(message.contains("--machine vmx -- CMD"), "{message}");
    }
}
