//! Runs Bochs, which emulates a machine with VMX: copies the output of the command, and returns its exit code or why the VM
//! died.
//!
//! The kernel's log comes through a serial port, and the output of the command through a faster I/O port.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{boot_cd, config::Vm, emulator, port_output::PortOutput, run_files::RunFiles};
use crate::{apt, process};

const PROGRAM: &str = "bochs-bin";

const BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
const VGA_BIOS: &str = "/usr/share/vgabios/vgabios.bin";

/// What Bochs needs, and the Debian packages that contain it. bochs-term is the smallest user interface that bochs depends on.
const REQUIREMENTS: [(&str, &[&str]); 6] = [
    (PROGRAM, &["bochs", "bochs-term"]),
    (BIOS, &["bochsbios"]),
    (VGA_BIOS, &["vgabios"]),
    (boot_cd::WRITER, &["xorriso"]),
    (boot_cd::BOOT_LOADER[0], &["isolinux"]),
    (boot_cd::BOOT_LOADER[1], &["syslinux-common"]),
];

/// A panic or an oops ends the VM at once, because the triple fault of a reboot ends Bochs. The other arguments leave out what
/// takes Bochs seconds: self-tests, keys, and the calibration of the TSC.
const KERNEL_ARGUMENTS: &str = "console=ttyS0,115200 quiet panic=-1 oops=panic reboot=triple nokaslr mitigations=off \
     tsc=reliable cryptomgr.notests=1 initcall_blacklist=load_system_certificate_list";

/// Installs Bochs and the tools for its boot CD if they are missing.
///
/// # Errors
/// If Bochs cannot run such a VM or cannot be installed.
pub(super) fn prepare(vm: &Vm) -> Result<()> {
    check(vm)?;
    let missing: Vec<_> = REQUIREMENTS
        .iter()
        .filter(|(requirement, _)| find(requirement).is_none())
        .flat_map(|(_, packages)| packages.iter().copied())
        .collect();
    if !missing.is_empty() {
        apt::install(&missing, "the test VM with VMX")?;
    }
    for (requirement, packages) in REQUIREMENTS {
        find(requirement).with_context(|| {
            format!(
                "the test VM with VMX needs {requirement}, which package {} of this system does not have",
                packages[0]
            )
        })?;
    }
    Ok(())
}

/// Returns the path of a program or a file, if it exists.
fn find(requirement: &str) -> Option<PathBuf> {
    let path = Path::new(requirement);
    if path.is_absolute() {
        path.is_file().then(|| path.to_owned())
    } else {
        process::find_program(requirement)
    }
}

/// Fails if Bochs cannot run such a VM.
fn check(vm: &Vm) -> Result<()> {
    if vm.cpus != 1 {
        bail!(
            "the machine vmx has one CPU, not {}: leave out --smp, or use --machine svm",
            vm.cpus
        );
    }
    if vm.counts_instructions {
        bail!("--icount is an option of QEMU: use --machine svm");
    }
    Ok(())
}

/// Runs the VM's command to its end and returns its exit code.
pub(super) fn run(vm: &Vm, kernel: &Path, initramfs: &[u8], output: &mut dyn Write) -> Result<u8> {
    let files = RunFiles::create("bochs.log")?;
    let cd = boot_cd::write(files.dir(), kernel, KERNEL_ARGUMENTS, initramfs)?;
    let configuration = files.dir().join("bochsrc");
    fs::write(&configuration, configure(vm, &cd, &files.console()))?;
    // Debian's Bochs has a debugger, which waits for this command before the boot.
    let debugger_commands = files.dir().join("debugger");
    fs::write(&debugger_commands, "c\n")?;
    let mut bochs = emulator::command(PROGRAM);
    bochs
        .args(["-q", "-f"])
        .arg(&configuration)
        .arg("-rc")
        .arg(&debugger_commands);
    let mut port = PortOutput::default();
    emulator::run(&mut bochs, vm, &files, &mut |chunk| {
        port.receive(chunk, output)
    })?;
    match port.exit_code() {
        Some(code) => {
            files.remove()?;
            Ok(code)
        }
        None => Err(files.early_end()),
    }
}

/// Returns the configuration file of Bochs.
fn configure(vm: &Vm, cd: &Path, console: &Path) -> String {
    let memory = vm.memory_mib;
    let lines = [
        // A screen for VNC clients that nobody has to connect to.
        "display_library: rfb, options=\"timeout=0\"".to_owned(),
        format!("memory: guest={memory}, host={memory}"),
        format!("romimage: file={BIOS}"),
        format!("vgaromimage: file={VGA_BIOS}"),
        // The VM's clock advances by one second per 200 million instructions, for which Bochs needs two seconds. With fewer,
        // times in the VM would be much longer than on a real machine.
        "cpu: model=corei7_haswell_4770, count=1, ips=200000000, reset_on_triple_fault=0, ignore_bad_msrs=1".to_owned(),
        // Bochs' clock counts instructions, so it does not depend on the host's load. The date is fixed.
        "clock: sync=none, time0=1790000000".to_owned(),
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14".to_owned(),
        format!(
            "ata0-master: type=cdrom, path=\"{}\", status=inserted",
            cd.display()
        ),
        "boot: cdrom".to_owned(),
        format!(
            "com1: enabled=1, mode=file, dev=\"{}\"",
            console.display()
        ),
        "port_e9_hack: enabled=1".to_owned(),
        // `-` is stderr.
        "log: -".to_owned(),
        "panic: action=fatal".to_owned(),
        "error: action=ignore".to_owned(),
        "info: action=ignore".to_owned(),
        "debug: action=ignore".to_owned(),
    ];
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::{machine::Machine, series::Series};
    use super::*;

    fn vm() -> Vm {
        Vm::with_machine(Machine::Vmx, Series::V6_1)
    }

    #[test]
    fn the_configuration_has_the_memory_and_the_files_of_the_vm() {
        let vm = Vm {
            memory_mib: 768,
            ..vm()
        };
        let text = configure(&vm, Path::new("/run 1/boot.iso"), Path::new("/run 1/log"));
        let lines: Vec<_> = text.lines().collect();
        for line in [
            "memory: guest=768, host=768",
            "ata0-master: type=cdrom, path=\"/run 1/boot.iso\", status=inserted",
            "com1: enabled=1, mode=file, dev=\"/run 1/log\"",
            "port_e9_hack: enabled=1",
        ] {
            assert!(lines.contains(&line), "{line} in {text}");
        }
    }

    #[test]
    fn settings_of_qemu_are_errors() {
        check(&vm()).unwrap();
        let two_cpus = Vm { cpus: 2, ..vm() };
        let message = check(&two_cpus).unwrap_err().to_string();
        assert!(message.contains("one CPU, not 2"), "{message}");
        let icount = Vm {
            counts_instructions: true,
            ..vm()
        };
        let message = check(&icount).unwrap_err().to_string();
        assert!(message.contains("--icount"), "{message}");
    }
}
