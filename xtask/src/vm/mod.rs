//! A disposable virtual machine with a Debian kernel and kvm_amd.
//!
//! QEMU emulates the machine in software (TCG, with AMD's SVM), so the host needs no KVM. A boot with a short command takes about
//! four seconds. The VM has busybox, the configured files and packages, and no persistent storage.

pub(crate) mod command;
mod config;
mod cpio;
mod emulator;
mod files;
mod initramfs;
mod kernel;
mod modules;
mod packages;
mod qemu;
mod run_files;
mod series;

use std::io::Write;

use anyhow::Result;

pub(crate) use config::{GuestFile, Vm};
pub(crate) use kernel::{modules_dir, newest_package};
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
}

impl PreparedVm {
    /// Fetches the kernel and the packages of a VM.
    ///
    /// # Errors
    /// If something cannot be fetched or QEMU cannot be installed. Such an error never means that the collector is broken.
    pub(crate) fn fetch(config: Vm) -> Result<Self> {
        qemu::prepare(&config)?;
        initramfs::ensure_installed()?;
        let kernel = Kernel::fetch(config.kernel)?;
        let mut packages = config
            .packages
            .iter()
            .map(|name| Package::fetch(name))
            .collect::<Result<Vec<_>>>()?;
        for name in &config.extras {
            match Package::fetch(name) {
                Ok(package) => packages.push(package),
                Err(err) => info!("continuing without {name}: {err:#}"),
            }
        }
        Ok(Self {
            config,
            kernel,
            packages,
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
        qemu::run(&self.config, &self.kernel.image, &initramfs, output)
    }

    /// Boots to a shell on this terminal and returns the shell's exit code.
    pub(crate) fn shell(&self) -> Result<u8> {
        let initramfs = self.initramfs(Session::Shell)?;
        qemu::shell(&self.config, &self.kernel.image, &initramfs)
    }

    fn initramfs(&self, session: Session<'_>) -> Result<Vec<u8>> {
        initramfs::build(&self.config, &self.kernel, &self.packages, session)
    }
}
