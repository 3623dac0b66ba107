//! Builds the file system of the VM: busybox, modules, files, packages, and the init script.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    config::{GuestFile, Vm},
    cpio::Archive,
    files::{add_file, add_tree},
    kernel::Kernel,
    machine::Machine,
    packages::Package,
    port_output,
};
use crate::{apt, process};

const INIT: &str = include_str!("init.sh");

/// The program that the VM runs after the boot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Session<'a> {
    Command(&'a [String]),
    Shell,
}

/// Installs busybox if it is missing.
pub(crate) fn ensure_installed() -> Result<()> {
    if find_busybox().is_none() {
        apt::install(&["busybox-static"], "the VM's user space")?;
    }
    Ok(())
}

/// Returns the path of the host's busybox, if it is statically linked. The VM has no libraries for others.
fn find_busybox() -> Option<PathBuf> {
    let busybox = process::find_program("busybox")?;
    let bytes = fs::read(&busybox).ok()?;
    let loader = b"/ld-linux";
    let is_dynamic = bytes.windows(loader.len()).any(|window| window == loader);
    (!is_dynamic).then_some(busybox)
}

/// Builds the initramfs.
pub(crate) fn build(
    vm: &Vm,
    kernel: &Kernel,
    packages: &[Package],
    session: Session<'_>,
) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["dev", "proc", "root", "sys", "tmp", "run", "etc"] {
        archive.add_directory(dir);
    }
    archive.add_file("init", 0o755, INIT.as_bytes());
    archive.add_file("vm/settings", 0o644, format_settings(vm, kernel).as_bytes());
    if let Session::Command(words) = session {
        archive.add_file("vm/command", 0o644, format_command_line(words).as_bytes());
    }
    if vm.machine == Machine::Vmx {
        let writer = port_output::build_writer()?;
        archive.add_file(port_output::WRITER, 0o755, &writer);
    }
    for GuestFile { host, guest } in &vm.files {
        add_file(&mut archive, host, guest)?;
    }
    for package in packages {
        package.add_to(&mut archive)?;
    }
    add_tree(&mut archive, &kernel.root, Path::new("lib"))?;
    add_busybox(&mut archive)?;
    Ok(archive.finish())
}

/// Formats the settings for the init script, as shell variables.
fn format_settings(vm: &Vm, kernel: &Kernel) -> String {
    let modules: Vec<_> = kernel
        .loadable
        .iter()
        .copied()
        .filter(|module| vm.kvm || !module.starts_with("kvm"))
        .collect();
    let tracefs = if vm.tracefs { "yes" } else { "no" };
    let mut settings = format!("MODULES=\"{}\"\nTRACEFS={tracefs}\n", modules.join(" "));
    if vm.machine == Machine::Vmx {
        settings += &port_output::settings();
    }
    settings
}

/// Formats a command for the shell, with quoted words.
fn format_command_line(words: &[String]) -> String {
    let quoted: Vec<_> = words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    format!("exec {}\n", quoted.join(" "))
}

/// Adds busybox and a symbolic link for each of its commands.
fn add_busybox(archive: &mut Archive) -> Result<()> {
    let busybox = find_busybox().context("busybox-static is not installed")?;
    add_file(archive, &busybox, "bin/busybox")?;
    for applet in process::read_stdout(Command::new(&busybox).arg("--list"))?.lines() {
        archive.add_symlink(&format!("bin/{applet}"), "busybox");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        let words = ["echo", "two words", "it's $HOME"].map(str::to_owned);
        assert_eq!(
            format_command_line(&words),
            "exec 'echo' 'two words' 'it'\\''s $HOME'\n"
        );
    }
}
