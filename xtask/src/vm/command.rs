//! `cargo xtask vm`: runs a command or a shell in a disposable VM.

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;

use super::{GuestFile, PreparedVm, Series, Vm};
use crate::{collector, process::info};

#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    /// Linux version
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Series,
    /// Number of CPUs
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Copy a file into the VM, to DEST or to /root
    #[arg(long, value_name = "FILE[:DEST]")]
    with: Vec<GuestFile>,
    /// Install a Debian package in the VM, with the libraries that it needs
    #[arg(long, value_name = "DEB")]
    with_package: Vec<String>,
    /// Do not load kvm_amd
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
    /// Command to run [default: a shell]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(crate) fn run(args: VmArgs) -> Result<ExitCode> {
    if args.command.is_empty() && !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
        bail!(
            "a shell in the VM needs a terminal; without one, run a command: `cargo xtask vm -- CMD`"
        );
    }
    let mut vm = Vm {
        cpus: args.smp,
        memory_mib: args.memory,
        files: args.with,
        packages: args.with_package,
        kvm: !args.no_kvm,
        tracefs: !args.no_tracefs,
        counts_instructions: args.icount,
        timeout: Duration::from_secs(args.timeout),
        ..Vm::new(args.kernel)
    };
    vm = vm.with_file(collector::build_static()?.collector, collector::PATH_IN_VM);
    let vm = PreparedVm::fetch(vm)?;
    info!("booting Linux {}", args.kernel.name());
    let code = if args.command.is_empty() {
        vm.shell()?
    } else {
        vm.run(&args.command, &mut io::stdout())?
    };
    Ok(ExitCode::from(code))
}
