//! `cargo xtask demo`: runs the collector's main commands with the built-in guest, on this host or in a VM.

use std::{io, path::Path, process::ExitCode};

use anyhow::{Result, bail};

use crate::{
    collector,
    process::{self, as_root, say},
    vm::{PreparedVm, Series, Vm},
};

/// The commands, and the kinds and numbers of the guest's exits. There are enough exits for a meaningful report, and few
/// enough for a readable trace.
type Show = (&'static str, &'static str, &'static str);
const STAT: Show = ("stat", "io,cpuid", "20000");
const EXITS: Show = ("exits", "io,cpuid,mmio,msr,hlt", "2000");
const TRACE: Show = ("trace", "io,cpuid", "3");

pub(crate) fn run() -> Result<ExitCode> {
    let collector = collector::build()?;
    if collector::reports_exits(&collector) {
        say!("this host's KVM reports VM exits: all of it runs here");
        show_on_host(&collector, &[STAT, EXITS, TRACE])?;
    } else if Path::new("/dev/kvm").exists() {
        say!(
            "this host has KVM, but its kvm_exit does not fire: `exits` runs in a VM with kvm_amd"
        );
        show_on_host(&collector, &[STAT, TRACE])?;
        show_in_vm(&[EXITS])?;
    } else {
        say!("this host has no KVM: all of it runs in a VM with kvm_amd");
        show_in_vm(&[STAT, EXITS, TRACE])?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_on_host(collector: &Path, views: &[Show]) -> Result<()> {
    for show in views {
        let words = words(&collector.to_string_lossy(), *show);
        announce(&words, "on this host");
        let mut command = as_root(collector);
        let status = process::status(command.args(&words[1..]))?;
        if !status.success() {
            bail!("{} failed: {status}", process::show(&command));
        }
    }
    Ok(())
}

fn show_in_vm(views: &[Show]) -> Result<()> {
    let kernel = Series::V6_12;
    let vm = Vm::new(kernel).with_file(collector::build_static()?.collector, collector::IN_VM);
    let vm = PreparedVm::fetch(vm)?;
    for show in views {
        let words = words(collector::IN_VM, *show);
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

/// Returns `COLLECTOR VIEW -- COLLECTOR guest ...`.
fn words(collector: &str, (view, kinds, exits): Show) -> Vec<String> {
    [
        collector, view, "--", collector, "guest", "--kind", kinds, "--exits", exits,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn announce(words: &[String], place: &str) {
    let collector = &words[0];
    let typed = words.join(" ").replace(collector.as_str(), "kvm-collector");
    println!("\n# {place}\n$ {typed}");
}
