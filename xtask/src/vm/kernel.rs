//! Fetches Debian's kernels once, and stores the image and the modules that the VM needs.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{machine::Machine, modules, series::Series};
use crate::{
    apt::{self, Packages},
    architecture::Architecture,
    process::{self, info},
    workspace,
};

/// Returns the modules that a VM needs, unless they are built in: KVM, and the drivers for the output.
fn required_modules(machine: Machine) -> Vec<&'static str> {
    let mut modules = match machine {
        Machine::Svm | Machine::Arm64 | Machine::Arm64Nvhe => vec!["virtio_pci", "virtio_console"],
        Machine::Vmx => vec![],
    };
    modules.extend(machine.kvm_module());
    modules
}

/// The cloud kernels have the same source with fewer drivers, so they are smaller and boot faster. They support KVM
/// and tracing.
fn flavour(architecture: Architecture) -> String {
    format!("cloud-{}", architecture.debian_name())
}

/// A kernel in the cache.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// A folder that contains `lib/modules/VERSION`.
    pub(crate) root: PathBuf,
    /// Names of the [`required_modules`] that are not built into this kernel.
    pub(crate) loadable: Vec<&'static str>,
}

impl Kernel {
    /// Returns a cached kernel of the series, or fetches the newest one.
    pub(crate) fn fetch(series: Series, machine: Machine) -> Result<Self> {
        let name = match machine {
            Machine::Svm => series.name().to_owned(),
            Machine::Vmx => format!("{}-vmx", series.name()),
            Machine::Arm64 | Machine::Arm64Nvhe => format!("{}-arm64", series.name()),
        };
        let cache = workspace::target("vm/kernels").join(name);
        if !cache.exists() {
            download(series, machine, &cache)?;
        }
        Self::open(&cache, machine)
    }

    fn open(dir: &Path, machine: Machine) -> Result<Self> {
        let root = dir.join("root");
        let modules_dep = fs::read_to_string(modules_dir(&root)?.join("modules.dep"))?;
        let loadable = required_modules(machine)
            .into_iter()
            .filter(|module| modules::files_of(&modules_dep, module).is_some())
            .collect();
        Ok(Self {
            image: dir.join("vmlinuz"),
            root,
            loadable,
        })
    }
}

fn download(series: Series, machine: Machine, cache: &Path) -> Result<()> {
    let architecture = machine.architecture();
    let package = newest_package(series, architecture)?;
    let mut tools = vec![("depmod", "kmod"), ("xz", "xz-utils")];
    if machine == Machine::Vmx {
        tools.push(("strip", "binutils"));
    }
    for (tool, package) in tools {
        if process::find_program(tool).is_none() {
            apt::install(&[package], "preparing a kernel's modules")?;
        }
    }
    info!("fetching {package} (about 30 MB, once)");
    let unpacked = workspace::temporary_path(cache, "unpacked");
    let packages = Packages::of_suites(series.suites(), architecture)?;
    let mut names = packages.search(&parts_pattern(&package))?;
    names.push(package.clone());
    packages.unpack(&names, &unpacked)?;
    // Newer packages expect that /lib is a link, as in an installed system.
    let lib = unpacked.join("lib");
    if !lib.exists() {
        symlink("usr/lib", lib)?;
    }
    let prepared = workspace::temporary_path(cache, "prepared");
    let root = prepared.join("root");
    extract_modules(&unpacked, &root, machine)
        .with_context(|| format!("cannot prepare {package}"))?;
    fs::copy(find_image(&unpacked)?, prepared.join("vmlinuz"))?;
    fs::remove_dir_all(&unpacked)?;
    fs::rename(&prepared, cache)?;
    Ok(())
}

/// Returns a pattern of the packages with the files of a kernel package. Since Linux 7.1 in Debian, the kernel package itself has
/// none.
fn parts_pattern(package: &str) -> String {
    let version = package.strip_prefix("linux-image-").unwrap_or(package);
    let version = version.replace('.', "\\.").replace('+', "\\+");
    format!("^linux-(base|binary|modules)-{version}$")
}

/// Returns the newest kernel package of a series.
pub(crate) fn newest_package(series: Series, architecture: Architecture) -> Result<String> {
    let packages = Packages::of_suites(series.suites(), architecture)
        .context("the VM's kernels are Debian packages")?;
    let flavour = flavour(architecture);
    let version = series.version();
    let names = packages.search(&format!("^linux-image-{}", version.replace('.', "\\.")))?;
    find_newest(&names, version, &flavour).with_context(|| match series.suites() {
        [] => format!(
            "apt has no package linux-image-{version}.*-{flavour}: add Debian 12 (with its security updates) to apt's sources"
        ),
        [suite, ..] => format!("Debian's {} has no package linux-image-{version}*-{flavour}", suite.name),
    })
}

/// Returns the kernel package with the newest version among `names`, without unsigned kernels, debug symbols and real-time
/// kernels. The version must begin with the numbers `series`.
fn find_newest(names: &[String], series: &str, flavour: &str) -> Option<String> {
    names
        .iter()
        .filter_map(|name| {
            let version = name
                .strip_prefix("linux-image-")?
                .strip_suffix(flavour)?
                .strip_suffix('-')?;
            if !series.is_empty() {
                version.strip_prefix(series)?.strip_prefix('.')?;
            }
            let numbers: Vec<u32> = version
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|number| number.parse().ok())
                .collect();
            Some((numbers, name))
        })
        .max()
        .map(|(_, name)| name.clone())
}

/// Copies the required modules from a complete kernel package to `root`, decompressed.
fn extract_modules(package: &Path, root: &Path, machine: Machine) -> Result<()> {
    let from = modules_dir(package)?;
    let version = from.file_name().context("a modules folder has a name")?;
    let to = root.join("lib/modules").join(version);
    depmod(package, version.as_ref())?;
    // If all required modules are built in, none is copied.
    fs::create_dir_all(&to)?;
    let modules_dep = fs::read_to_string(from.join("modules.dep"))?;
    for module in required_modules(machine) {
        for file in modules::files_of(&modules_dep, module).unwrap_or_default() {
            let copy = copy_module(&from.join(file), &to.join(file))?;
            if machine == Machine::Vmx {
                strip_module(&copy)?;
            }
        }
    }
    for list in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        fs::copy(from.join(list), to.join(list))?;
    }
    depmod(root, version.as_ref())
}

/// Copies a module and decompresses it, because the emulated VM would do that slowly at every boot. Returns the path of the
/// decompressed copy.
fn copy_module(from: &Path, to: &Path) -> Result<PathBuf> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    if to.extension().is_some_and(|extension| extension == "xz") {
        process::run(Command::new("xz").args(["--decompress", "--force"]).arg(to))?;
        return Ok(to.with_extension(""));
    }
    Ok(to.to_owned())
}

/// Removes the debug information and the signature of a module. Bochs needs seconds to verify an RSA signature. BTF stays.
fn strip_module(module: &Path) -> Result<()> {
    process::run(Command::new("strip").arg("--strip-debug").arg(module))
}

fn depmod(root: &Path, version: &Path) -> Result<()> {
    let depmod =
        process::find_program("depmod").context("depmod is not installed: install kmod")?;
    process::run(Command::new(depmod).arg("-b").arg(root).arg(version))
}

/// Returns `ROOT/lib/modules/VERSION`, which is under `usr` in newer Debian packages.
pub(crate) fn modules_dir(root: &Path) -> Result<PathBuf> {
    for modules in ["lib/modules", "usr/lib/modules"] {
        if let Ok(mut versions) = fs::read_dir(root.join(modules))
            && let Some(version) = versions.next()
        {
            return Ok(version?.path());
        }
    }
    bail!("no kernel modules in {}", root.display())
}

/// Returns the image of a kernel package: in `/boot`, or, in newer packages, beside the modules.
fn find_image(package: &Path) -> Result<PathBuf> {
    for folder in [package.join("boot"), modules_dir(package)?] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry?.path();
            let is_image = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
            if is_image {
                return Ok(path);
            }
        }
    }
    bail!("no kernel image in {}", package.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        let names = [
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.118+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.119+deb12-rt-amd64",
            "linux-image-6.12.120+deb12-amd64",
            "linux-image-6.12-cloud-amd64-dbg",
        ]
        .map(str::to_owned);
        assert_eq!(
            find_newest(&names, "6.12", "cloud-amd64").as_deref(),
            Some("linux-image-6.12.117+deb12-cloud-amd64")
        );
    }

    #[test]
    fn kernels_of_other_series_are_ignored() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
        ]
        .map(str::to_owned);
        assert_eq!(
            find_newest(&names, "6.1", "cloud-amd64").as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(find_newest(&names, "6.6", "cloud-amd64"), None);
        assert_eq!(
            find_newest(&names, "", "cloud-amd64").as_deref(),
            Some("linux-image-6.12.117+deb12-cloud-amd64")
        );
    }

    #[test]
    fn each_machine_has_the_kvm_module_of_its_vendor() {
        assert_eq!(
            required_modules(Machine::Svm),
            ["virtio_pci", "virtio_console", "kvm_amd"]
        );
        assert_eq!(required_modules(Machine::Vmx), ["kvm_intel"]);
        assert_eq!(
            required_modules(Machine::Arm64),
            ["virtio_pci", "virtio_console"]
        );
    }
}
