//! Builds the file system of the VM: busybox, modules, files, packages, and the init script.

use std::path::Path;

use anyhow::Result;

use super::{
    config::{GuestFile, Vm},
    cpio::Archive,
    files::{add_file, add_tree},
    kernel::Kernel,
    linux_guest,
    machine::Machine,
    packages::Package,
    port_output,
};
const INIT: &str = include_str!("init.sh");

/// The program that the VM runs after the boot.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Session<'a> {
    Command(&'a [String]),
    Shell,
}

/// Builds the initramfs.
pub(super) fn build(
    vm: &Vm,
    kernel: &Kernel,
    packages: &[Package],
    busybox: &Path,
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
    if vm.linux_guest {
        linux_guest::add_to(&mut archive, kernel, busybox)?;
    }
    for package in packages {
        package.add_to(&mut archive)?;
    }
    add_tree(&mut archive, &kernel.root, Path::new("lib"))?;
    add_busybox(&mut archive, busybox)?;
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

/// Adds busybox. The init script creates links for its other commands, because busybox may be for a foreign architecture, and
/// only it knows its commands.
fn add_busybox(archive: &mut Archive, busybox: &Path) -> Result<()> {
    add_file(archive, busybox, "bin/busybox")?;
    archive.add_symlink("bin/sh", "busybox");
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
