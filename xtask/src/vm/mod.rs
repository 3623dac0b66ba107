//! A disposable virtual machine with a Debian kernel and KVM.
//!
//! An emulator runs the machine in software, so the host needs no KVM: QEMU (TCG) a machine with AMD's SVM or with arm64's
//! EL2, Bochs one with Intel's VMX, which QEMU does not emulate. A boot with a short command takes about four seconds in
//! QEMU, and 20 in Bochs. The VM has busybox, the configured files and packages, and no persistent storage.

mod bochs;
mod boot_cd;
mod busybox;
pub(crate) mod command;
mod config;
mod cpio;
mod emulator;
mod files;
mod initramfs;
mod kernel;
mod linux_guest;
mod machine;
mod modules;
mod packages;
mod port_output;
mod qemu;
mod run_files;
mod series;

use std::{io::Write, path::PathBuf};

use anyhow::Result;

pub(crate) use config::{GuestFile, Vm};
pub(crate) use kernel::{modules_dir, newest_package};
pub(crate) use machine::Machine;
pub(crate) use series::Series;

use initramfs::Session;
use kernel::Kernel;
use packages::Package;

use crate::process::info;

/// A virtual machine with everything fetched, ready to boot any number of times.
#[derive(Debug)]
pub(crate) struct PreparedVm {
    config: Vm,
    kernel: Kernel,
    packages: Vec<Package>,
    /// Path of a busybox for the VM.
    busybox: PathBuf,
}

impl PreparedVm {
    /// Fetches the kernel and the packages of a VM.
    ///
    /// # Errors
    /// If something cannot be fetched or the emulator cannot be installed, or it cannot run such a VM. Such an error never means that the collector is broken.
    pub(crate) fn fetch(config: Vm) -> Result<Self> {
        match config.machine {
            Machine::Vmx => bochs::prepare(&config)?,
            Machine::Svm | Machine::Arm64 | Machine::Arm64Nvhe => qemu::prepare(&config)?,
        }
        let architecture = config.machine.architecture();
        let busybox = busybox::find_or_install(architecture)?;
        let kernel = Kernel::fetch(config.kernel, config.machine)?;
        let mut packages = config
            .packages
            .iter()
            .map(|name| Package::fetch(name, architecture))
            .collect::<Result<Vec<_>>>()?;
        for extra in &config.extras {
            let name = &extra.package;
            match Package::fetch(name, architecture) {
                Ok(package) => packages.push(match &extra.file {
                    Some(file) => package.with_only(file),
                    None => package,
                }),
                Err(err) => info!("continuing without {name}: {err:#}"),
            }
        }
        Ok(Self {
            config,
            kernel,
            packages,
            busybox,
        })
    }

    /// Boots, runs a command and powers off. Copies the command's stdout and stderr to `output` and returns
    /// its exit code.
    ///
    /// # Errors
    /// If the kernel panics, the time limit passes, or the boot fails before the command. A command that
    /// fails is not an error.
    pub(crate) fn run(&self, command_line: &[String], output: &mut dyn Write) -> Result<u8> {
        let initramfs = self.initramfs(Session::Command(command_line))?;
        let run = match self.config.machine {
            Machine::Vmx => bochs::run,
            Machine::Svm | Machine::Arm64 | Machine::Arm64Nvhe => qemu::run,
        };
        run(&self.config, &self.kernel.image, &initramfs, output)
    }

    /// Boots to a shell on this terminal and returns the shell's exit code. Not for [`Machine::Vmx`].
    pub(crate) fn shell(&self) -> Result<u8> {
        let initramfs = self.initramfs(Session::Shell)?;
        qemu::shell(&self.config, &self.kernel.image, &initramfs)
    }

    fn initramfs(&self, session: Session<'_>) -> Result<Vec<u8>> {
        initramfs::build(
            &self.config,
            &self.kernel,
            &self.packages,
            &self.busybox,
            session,
        )
    }
}
