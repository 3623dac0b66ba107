//! `cargo xtask demo`: runs the collector's main commands with the built-in guest, on this host or in a VM.

use std::{io, path::Path, process::ExitCode};

use anyhow::{Result, bail};

use crate::{
    architecture::Architecture,
    collector,
    process::{self, as_root, info},
    vm::{PreparedVm, Series, Vm},
};

/// A command of the collector, and the kinds and the number of the guest's exits: enough for a meaningful report, and few enough
/// for a readable trace.
type Demonstration = (&'static str, &'static str, &'static str);
const STAT: Demonstration = ("stat", "io,cpuid", "20000");
const EXITS: Demonstration = ("exits", "io,cpuid,mmio,msr,hlt", "2000");
const TRACE: Demonstration = ("trace", "io,cpuid", "3");

pub(crate) fn run() -> Result<ExitCode> {
    let collector = collector::build()?;
    if collector::host_reports_exits(&collector) {
        info!("this host's KVM reports VM exits: all commands run here");
        show_on_host(&collector, &[STAT, EXITS, TRACE])?;
    } else if Path::new("/dev/kvm").exists() {
        info!(
            "this host has KVM, but its kvm_exit does not fire: `exits` runs in a VM with kvm_amd"
        );
        show_on_host(&collector, &[STAT, TRACE])?;
        show_in_vm(&[EXITS])?;
    } else {
        info!("this host has no KVM: all commands run in a VM with kvm_amd");
        show_in_vm(&[STAT, EXITS, TRACE])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_on_host(collector: &Path, demonstrations: &[Demonstration]) -> Result<()> {
    for &demonstration in demonstrations {
        let words = command_line(&collector.to_string_lossy(), demonstration);
        announce(&words, "on this host");
        let mut command = as_root(collector);
        let status = process::status(command.args(&words[1..]))?;
        if !status.success() {
            bail!("{} failed: {status}", process::format_command(&command));
        }
    }
    Ok(())
}

fn show_in_vm(demonstrations: &[Demonstration]) -> Result<()> {
    let kernel = Series::V6_12;
    let vm = Vm::new(kernel).with_file(
        collector::build_static(Architecture::Amd64)?.collector,
        collector::PATH_IN_VM,
    );
    let vm = PreparedVm::fetch(vm)?;
    for &demonstration in demonstrations {
        let words = command_line(collector::PATH_IN_VM, demonstration);
        announce(
            &words,
            &format!("in a VM with Linux {} (takes some seconds)", kernel.name()),
        );
        let code = vm.run(&words, &mut io::stdout())?;
        if code != 0 {
            bail!("`{}` failed in the VM: exit code {code}", words.join(" "));
        }
    }
    Ok(())
}

/// Returns `COLLECTOR COMMAND -- COLLECTOR guest ...`.
fn command_line(collector: &str, (command, kinds, exits): Demonstration) -> Vec<String> {
    [
        collector, command, "--", collector, "guest", "--kind", kinds, "--exits", exits,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Prints a command as a user would type it.
fn announce(words: &[String], location: &str) {
    let collector = &words[0];
    let typed = words.join(" ").replace(collector.as_str(), "kvm-collector");
    println!("\n# {location}\n$ {typed}");
}
