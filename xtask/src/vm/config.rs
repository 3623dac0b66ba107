//! Configuration of a virtual machine.

use std::{path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Result, anyhow};

use super::{machine::Machine, series::Series};

/// Configuration of a virtual machine.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    pub(crate) machine: Machine,
    pub(crate) kernel: Series,
    pub(crate) cpus: u32,
    /// Number of CPUs for which the kernel keeps tables, if it is not `cpus`.
    pub(crate) possible_cpus: Option<u32>,
    pub(crate) memory_mib: u32,
    /// Files of the host to copy into the VM.
    pub(crate) files: Vec<GuestFile>,
    /// Debian packages to install, with the libraries that their programs need.
    pub(crate) packages: Vec<String>,
    /// Optional packages: left out, with a message, if they cannot be fetched.
    pub(crate) extras: Vec<Extra>,
    /// Add the kernel and a user space for guests of the VM, see [`super::linux_guest`].
    pub(crate) linux_guest: bool,
    /// Load [`Machine::kvm_module`] at boot, if there is one. Otherwise `modprobe` in the VM loads it.
    pub(crate) kvm: bool,
    /// Mount tracefs at `/sys/kernel/tracing`.
    pub(crate) tracefs: bool,
    /// The VM's clock advances by 1 ns per instruction (QEMU's -icount), so runs are repeatable to within 0.1 %.
    pub(crate) counts_instructions: bool,
    /// Time limit of a command, including the boot.
    pub(crate) timeout: Duration,
    /// The VM is stopped if the command prints nothing for this long, because it has hung.
    pub(crate) max_silence: Duration,
}

/// A Debian package from which the VM gets files.
#[derive(Debug, Clone)]
pub(crate) struct Extra {
    pub(crate) package: String,
    /// Path of the only file that is copied, because other files of the package would only use memory; `None`: all files are
    /// copied.
    pub(crate) file: Option<PathBuf>,
}

/// A file of the host and its absolute path in the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestFile {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
}

impl Vm {
    /// Returns a VM with SVM, which all commands support.
    pub(crate) fn new(kernel: Series) -> Self {
        Self::with_machine(Machine::Svm, kernel)
    }

    pub(crate) fn with_machine(machine: Machine, kernel: Series) -> Self {
        Self {
            machine,
            kernel,
            cpus: machine.default_cpus(),
            possible_cpus: None,
            memory_mib: machine.default_memory_mib(),
            files: Vec::new(),
            packages: Vec::new(),
            extras: Vec::new(),
            linux_guest: false,
            kvm: true,
            tracefs: true,
            counts_instructions: false,
            timeout: Duration::from_secs(600),
            max_silence: Duration::MAX,
        }
    }

    pub(crate) fn with_file(mut self, host: impl Into<PathBuf>, guest: &str) -> Self {
        self.files.push(GuestFile {
            host: host.into(),
            guest: guest.to_owned(),
        });
        self
    }

    pub(crate) fn with_extra(mut self, package: &str) -> Self {
        self.extras.push(Extra {
            package: package.to_owned(),
            file: None,
        });
        self
    }

    /// Adds QEMU, and Linux for its guests.
    pub(crate) fn with_linux_guest(mut self) -> Self {
        self.linux_guest = true;
        // QEMU and its libraries alone are 100 MB, twice: in the archive, and unpacked.
        self.memory_mib = 2048;
        self.with_extra_file("qemu-system-x86", "usr/bin/qemu-system-x86_64")
            .with_extra_file("qemu-system-data", "usr/share/qemu/kvmvapic.bin")
            .with_extra_file("qemu-system-data", "usr/share/qemu/linuxboot_dma.bin")
            .with_extra_file("seabios", "usr/share/seabios/bios-256k.bin")
    }

    /// Adds one file of a package. A program comes with the libraries that it needs.
    pub(crate) fn with_extra_file(mut self, package: &str, file: &str) -> Self {
        self.extras.push(Extra {
            package: package.to_owned(),
            file: Some(file.into()),
        });
        self
    }
}

/// Folder of the VM for files without DEST.
const DEFAULT_FOLDER: &str = "/root";

impl FromStr for GuestFile {
    type Err = anyhow::Error;

    /// Parses `FILE` or `FILE:DEST`. Without DEST, the file goes to [`DEFAULT_FOLDER`].
    fn from_str(text: &str) -> Result<Self> {
        let (host, guest) = match text.split_once(':') {
            Some((host, guest)) => (PathBuf::from(host), guest.to_owned()),
            None => {
                let host = PathBuf::from(text);
                let name = host
                    .file_name()
                    .ok_or_else(|| anyhow!("`{text}` has no file name"))?;
                let guest = format!("{DEFAULT_FOLDER}/{}", name.to_string_lossy());
                (host, guest)
            }
        };
        if !guest.starts_with('/') {
            return Err(anyhow!("`{guest}` is not an absolute path in the VM"));
        }
        Ok(Self { host, guest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_to_root_by_default() {
        let file: GuestFile = "some/tool".parse().unwrap();
        assert_eq!(file.guest, format!("{DEFAULT_FOLDER}/tool"));
        let file: GuestFile = "some/tool:/bin/other".parse().unwrap();
        assert_eq!(file.guest, "/bin/other");
        assert!("tool:relative".parse::<GuestFile>().is_err());
    }
}
