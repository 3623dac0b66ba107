//! Runs QEMU, which emulates a machine with SVM or with arm64's EL2: copies the output of the command, and returns its exit code or why the VM
//! died.
//!
//! The output of the command and the kernel's log use different devices, so they are not mixed.

use std::{
    fs,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::{config::Vm, emulator, machine::Machine, run_files::RunFiles, series::Series};
use crate::{apt, process};

/// The part of the command line that depends on the machine.
#[derive(Debug)]
struct Emulation {
    program: &'static str,
    /// Debian package of the program.
    package: &'static str,
    machine: &'static [&'static str],
    /// The kernel's console.
    console: &'static str,
}

impl Emulation {
    fn of(machine: Machine) -> Self {
        // `-cpu max` would be slow. A Cortex-A76 has VHE, a Cortex-A72 does not.
        let arm64 = |machine| Self {
            program: "qemu-system-aarch64",
            package: "qemu-system-arm",
            machine,
            console: "ttyAMA0",
        };
        match machine {
            Machine::Svm | Machine::Vmx => Self {
                program: "qemu-system-x86_64",
                package: "qemu-system-x86",
                machine: &["-cpu", "EPYC-Rome,svm=on"],
                console: "ttyS0",
            },
            Machine::Arm64 => arm64(&[
                "-machine",
                "virt,virtualization=on,gic-version=3",
                "-cpu",
                "cortex-a76",
            ]),
            Machine::Arm64Nvhe => arm64(&[
                "-machine",
                "virt,virtualization=on,gic-version=3",
                "-cpu",
                "cortex-a72",
            ]),
        }
    }
}

/// Installs QEMU if it is missing.
///
/// # Errors
/// If QEMU cannot run such a VM or cannot be installed.
pub(super) fn prepare(vm: &Vm) -> Result<()> {
    if vm.counts_instructions && vm.cpus > 1 && vm.kernel == Series::V6_1 {
        bail!(
            "Linux 6.1 hangs at the start of its second CPU when QEMU counts instructions: use --kernel 6.12 or one CPU"
        );
    }
    let emulation = Emulation::of(vm.machine);
    if process::find_program(emulation.program).is_none() {
        apt::install(&[emulation.package], "the test VM")?;
    }
    Ok(())
}

/// Runs the VM's command to its end and returns its exit code.
pub(super) fn run(vm: &Vm, kernel: &Path, initramfs: &[u8], output: &mut dyn Write) -> Result<u8> {
    let files = create_files(initramfs)?;
    let mut qemu = qemu_command(vm, kernel, &files);
    qemu.args(["-device", "virtserialport,chardev=out,nr=1"]);
    emulator::run(&mut qemu, vm, &files, &mut |chunk| {
        output.write_all(chunk)?;
        output.flush()?;
        Ok(ControlFlow::Continue(()))
    })?;
    read_exit_code(files)
}

/// Runs the VM on this terminal.
pub(super) fn shell(vm: &Vm, kernel: &Path, initramfs: &[u8]) -> Result<u8> {
    let files = create_files(initramfs)?;
    let mut qemu = qemu_command(vm, kernel, &files);
    qemu.args(["-device", "virtconsole,chardev=out,nr=0"]);
    process::status(qemu.stderr(files.create_emulator_log()?))?;
    read_exit_code(files)
}

/// Returns the kernel's parameter for its number of possible CPUs. Linux for x86 takes it for true before 6.9 (`prefill_possible_map`,
/// arch/x86/kernel/smpboot.c). Later versions only count CPUs that ACPI says could be added.
///
/// Such a kernel takes its TSC for unstable, so KVM writes the TSC offset after each exit to user space.
fn possible_cpus(vm: &Vm) -> String {
    match vm.possible_cpus {
        Some(possible) => format!(" possible_cpus={possible}"),
        None => String::new(),
    }
}

/// Returns the QEMU command without a device for the output of the VM's command.
fn qemu_command(vm: &Vm, kernel: &Path, files: &RunFiles) -> Command {
    let emulation = Emulation::of(vm.machine);
    // One thread for all CPUs: with one thread per CPU, QEMU's nested paging sometimes hangs or shuts a small guest down. But
    // with one for all, Linux as the guest hangs in half of the runs, because a wake-up is lost.
    let threads = if vm.linux_guest { "multi" } else { "single" };
    let mut qemu = emulator::command(emulation.program);
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-accel", &format!("tcg,thread={threads}")])
        .args(emulation.machine)
        .args(["-smp", &vm.cpus.to_string()])
        .args(["-m", &vm.memory_mib.to_string()])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(files.initramfs())
        // A panic or an oops ends the VM at once, because -no-reboot makes a reboot an exit.
        .arg("-append")
        .arg(format!(
            "console={} quiet panic=-1 oops=panic{}",
            emulation.console,
            possible_cpus(vm)
        ))
        .arg("-serial")
        .arg(format!("file:{}", files.console().display()))
        .args(["-device", "virtio-serial-pci"])
        .args(["-chardev", "stdio,id=out,signal=off"])
        .arg("-chardev")
        .arg(format!("file,id=status,path={}", status(files).display()))
        .args(["-device", "virtserialport,chardev=status,nr=2"]);
    if vm.counts_instructions {
        // Every instruction takes 1 ns, and idle time is skipped.
        qemu.args(["-icount", "shift=0,sleep=off"]);
    }
    qemu
}

fn create_files(initramfs: &[u8]) -> Result<RunFiles> {
    let files = RunFiles::create("qemu.log")?;
    fs::write(files.initramfs(), initramfs)?;
    Ok(files)
}

/// Path of the file with the exit code of the VM's command.
fn status(files: &RunFiles) -> PathBuf {
    files.dir().join("status")
}

/// Returns the exit code that the init script has written.
///
/// # Errors
/// If the script has written none, because the VM died.
fn read_exit_code(files: RunFiles) -> Result<u8> {
    let status = fs::read_to_string(status(&files)).unwrap_or_default();
    match status.trim().parse() {
        Ok(code) => {
            files.remove()?;
            Ok(code)
        }
        Err(_) => Err(files.early_end()),
    }
}
