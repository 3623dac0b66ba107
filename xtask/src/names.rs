//! `cargo xtask names`: compares the collector's tables of names with the kernel's headers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    apt::{self, Packages},
    architecture::Architecture,
    build_ebpf, cargo,
    process::{self, info},
    vm::{Series, modules_dir, newest_package},
    workspace,
};

/// Compare the tables of names and the advice with the kernel's headers and modules
///
/// Downloads Debian's linux-headers and linux-image packages of Linux 6.1 and 6.12 to target/headers (once,
/// about 80 MB), and runs kvm-collector's test `names` with them. Without --check, also lists MSRs that the
/// headers have and the tables lack.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// Fail if a table or the advice differs from the headers
    #[arg(long)]
    check: bool,
}

/// The kernels with whose headers the tables are compared.
const SERIES: [Series; 2] = [Series::V6_1, Series::V6_12];

/// Folders of the headers that the test reads.
const FOLDERS: [&str; 6] = [
    "arch/x86/include",
    "arch/arm64/include",
    "include/asm-generic",
    "include/linux",
    "include/uapi",
    "include/video",
];

/// Modules with parameters that the advice mentions: file name and module name.
const MODULES: [(&str, &str); 3] = [
    ("kvm", "kvm"),
    ("kvm-intel", "kvm_intel"),
    ("kvm-amd", "kvm_amd"),
];

pub(crate) fn run(args: &NamesArgs) -> Result<ExitCode> {
    let headers = workspace::target("headers");
    for series in SERIES {
        let folder = headers.join(series.name());
        if !folder.exists() {
            fetch(series, &folder)
                .with_context(|| format!("cannot fetch the headers of Linux {}", series.name()))?;
        }
    }
    build_ebpf::run()?;
    let mut test = cargo::cargo();
    test.args(["test", "--package", "kvm-collector", "--test", "names"])
        .env("KVM_TEST_HEADERS", &headers);
    if !args.check {
        test.env("KVM_TEST_LIST_MISSING", "1");
    }
    let succeeded = process::status(&mut test)?.success();
    Ok(if succeeded || !args.check {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Downloads the packages of a kernel and extracts the files that the test reads.
fn fetch(series: Series, folder: &Path) -> Result<()> {
    if process::find_program("modinfo").is_none() {
        apt::install(&["kmod"], "reading the parameters of modules")?;
    }
    let image = newest_package(series, Architecture::Amd64)?;
    let headers = headers_package(&image)?;
    info!("fetching {headers} and {image} (once)");
    let unpacked = workspace::temporary_path(folder, "unpacked");
    Packages::of(Architecture::Amd64)?.unpack(&[headers.clone(), image], &unpacked)?;
    let prepared = workspace::temporary_path(folder, "prepared");
    let source = unpacked.join("usr/src").join(&headers);
    for name in FOLDERS {
        let target = prepared.join(name);
        fs::create_dir_all(target.parent().context("a folder has a parent")?)?;
        fs::rename(source.join(name), &target).with_context(|| format!("{headers}: {name}"))?;
    }
    let parameters = prepared.join("parameters");
    fs::create_dir_all(&parameters)?;
    for (file, module) in MODULES {
        let path = find_module(&unpacked, file)?;
        let list = process::read_stdout(
            Command::new(process::find_program("modinfo").context("modinfo is not installed")?)
                .arg("--parameters")
                .arg(&path),
        )?;
        fs::write(parameters.join(module), list)?;
    }
    fs::remove_dir_all(&unpacked)?;
    fs::rename(&prepared, folder)?;
    Ok(())
}

/// Returns the package with the headers that all flavours of a kernel share.
fn headers_package(image: &str) -> Result<String> {
    // `linux-image-6.1.0-56-cloud-amd64` belongs to `linux-headers-6.1.0-56-common`.
    image
        .strip_prefix("linux-image-")
        .and_then(|rest| rest.strip_suffix("-cloud-amd64"))
        .map(|version| format!("linux-headers-{version}-common"))
        .with_context(|| format!("{image} is not the name of a cloud kernel"))
}

/// Returns the file of a KVM module, compressed or not.
fn find_module(package: &Path, name: &str) -> Result<PathBuf> {
    let folder = modules_dir(package)?.join("kernel/arch/x86/kvm");
    for extension in ["ko", "ko.xz"] {
        let path = folder.join(format!("{name}.{extension}"));
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("no module {name} in {}", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_version_of_the_image() {
        assert_eq!(
            headers_package("linux-image-6.12.117+deb12-cloud-amd64").unwrap(),
            "linux-headers-6.12.117+deb12-common"
        );
        assert!(headers_package("linux-image-6.1.0-56-amd64").is_err());
    }
}
