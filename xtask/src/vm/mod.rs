//! A disposable virtual machine with a real Debian kernel, kvm_amd in it, and the collector at `/bin/kvm-collector`.
//!
//! QEMU emulates all of it (TCG, with AMD's SVM), so it needs no KVM on the host and runs anywhere, if slowly: about four seconds
//! to boot, do little and power off. Inside there is busybox and what the caller puts there; nothing outlives the run.

pub(crate) mod command;
mod cpio;
mod initramfs;
mod kernel;
mod modules;
mod packages;
mod qemu;

use std::{io::Write, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Result, anyhow, bail};

pub(crate) use kernel::{Series, modules_dir, newest_package};

use initramfs::Session;
use kernel::Kernel;
use packages::Package;

use crate::process::say;

/// What machine is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) kernel: Series,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    /// Files of the host's to put inside.
    pub(crate) files: Vec<Placed>,
    /// Debian packages to put inside, with the libraries they need.
    pub(crate) packages: Vec<String>,
    /// Such packages that it also does without, where they cannot be fetched.
    pub(crate) extras: Vec<String>,
    /// Load kvm_amd at boot. Without, it can still be loaded by `modprobe kvm_amd`.
    pub(crate) kvm: bool,
    /// Mount tracefs at `/sys/kernel/tracing`.
    pub(crate) tracefs: bool,
    /// The clock counts instructions, a nanosecond each: a run repeats to within 0.1 %.
    pub(crate) counts_instructions: bool,
    /// How long a command may take, boot included.
    pub(crate) timeout: Duration,
}

/// A file of the host's and its absolute path in the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
}

impl Vm {
    pub(crate) fn new(kernel: Series) -> Self {
        Self {
            kernel,
            cpus: 2,
            memory_mib: 1024,
            files: Vec::new(),
            packages: Vec::new(),
            extras: Vec::new(),
            kvm: true,
            tracefs: true,
            counts_instructions: false,
            timeout: Duration::from_secs(600),
        }
    }

    pub(crate) fn with_file(mut self, host: impl Into<PathBuf>, guest: &str) -> Self {
        self.files.push(Placed {
            host: host.into(),
            guest: guest.to_owned(),
        });
        self
    }

    pub(crate) fn with_extra(mut self, package: &str) -> Self {
        self.extras.push(package.to_owned());
        self
    }

    /// Fetches everything the machine consists of. What fails here says nothing about the collector.
    pub(crate) fn prepare(self) -> Result<PreparedVm> {
        if self.counts_instructions && self.cpus > 1 && self.kernel == Series::V6_1 {
            bail!(
                "where QEMU counts instructions, Linux 6.1 waits for ever for its second CPU: take --kernel 6.12, or one CPU"
            );
        }
        qemu::ensure_installed()?;
        initramfs::ensure_installed()?;
        let kernel = Kernel::fetch(self.kernel)?;
        let mut packages = self
            .packages
            .iter()
            .map(|name| Package::fetch(name))
            .collect::<Result<Vec<_>>>()?;
        for name in &self.extras {
            match Package::fetch(name) {
                Ok(package) => packages.push(package),
                Err(err) => say!("doing without {name}: {err:#}"),
            }
        }
        Ok(PreparedVm {
            vm: self,
            kernel,
            packages,
        })
    }
}

/// A machine that has only to be switched on, as often as wanted.
#[derive(Debug)]
pub(crate) struct PreparedVm {
    vm: Vm,
    kernel: Kernel,
    packages: Vec<Package>,
}

impl PreparedVm {
    /// Boots, runs `words` and powers off. What the command prints, on stdout and stderr, goes to `output` as it comes.
    ///
    /// # Errors
    /// A panic, a timeout, or a boot that never got to the command. A command that fails is no error: its exit code is returned.
    pub(crate) fn run(&self, words: &[String], output: &mut dyn Write) -> Result<u8> {
        let initramfs = self.initramfs(Session::Command(words))?;
        qemu::run(&self.vm, &self.kernel.image, &initramfs, output)
    }

    /// Boots into a shell on this terminal and returns the shell's exit code.
    pub(crate) fn shell(&self) -> Result<u8> {
        let initramfs = self.initramfs(Session::Shell)?;
        qemu::shell(&self.vm, &self.kernel.image, &initramfs)
    }

    fn initramfs(&self, session: Session<'_>) -> Result<Vec<u8>> {
        initramfs::build(&self.vm, &self.kernel, &self.packages, session)
    }
}

impl FromStr for Placed {
    type Err = anyhow::Error;

    /// `FILE` or `FILE:DEST`.
    fn from_str(text: &str) -> Result<Self> {
        let (host, guest) = match text.split_once(':') {
            Some((host, guest)) => (PathBuf::from(host), guest.to_owned()),
            None => {
                let host = PathBuf::from(text);
                let name = host
                    .file_name()
                    .ok_or_else(|| anyhow!("`{text}` names no file"))?;
                let guest = format!("/root/{}", name.to_string_lossy());
                (host, guest)
            }
        };
        if !guest.starts_with('/') {
            return Err(anyhow!("`{guest}` is no absolute path in the VM"));
        }
        Ok(Self { host, guest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placed_file_goes_home_by_default() {
        let placed: Placed = "some/tool".parse().unwrap();
        assert_eq!(placed.guest, "/root/tool");
        let placed: Placed = "some/tool:/bin/other".parse().unwrap();
        assert_eq!(placed.guest, "/bin/other");
        assert!("tool:relative".parse::<Placed>().is_err());
    }
}
