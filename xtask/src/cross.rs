//! Finds or fetches what builds programs for an architecture that is not this machine's.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Packages},
    architecture::Architecture,
    process::{self, info},
    workspace,
};

/// Debian's compiler, which is also used for the eBPF programs, and the package with its library.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_COMPILER: &str = "rustc-web";
const DEBIAN_LIBRARY: &str = "libstd-rust-web-dev";

/// Linker and C compiler of an architecture, and the Debian packages that contain them.
const ARM64_LINKER: &str = "aarch64-linux-gnu-gcc";
const ARM64_PACKAGES: [&str; 2] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];

/// Compiler and linker for a foreign architecture.
#[derive(Debug)]
pub(crate) struct CrossToolchain {
    target: &'static str,
    /// Debian's library for the target; `None` if rustup's compiler has one.
    debian_sysroot: Option<PathBuf>,
}

impl CrossToolchain {
    /// Finds an installed toolchain, and fetches what is missing, if permitted. Rustup's library for the target is preferred,
    /// because then nothing has to be fetched.
    pub(crate) fn find_or_install(architecture: Architecture) -> Result<Self> {
        let Architecture::Arm64 = architecture else {
            bail!(
                "programs for {} can only be built on such a machine",
                architecture.debian_name()
            );
        };
        if process::find_program(ARM64_LINKER).is_none() {
            apt::install(&ARM64_PACKAGES, "building programs for arm64")?;
        }
        let target = architecture.rust_target();
        let debian_sysroot = if rustup_has(target)? {
            None
        } else {
            Some(fetch_library(architecture).with_context(|| {
                format!("cannot build programs for arm64: run `rustup target add {target}`, or use Debian 12")
            })?)
        };
        Ok(Self {
            target,
            debian_sysroot,
        })
    }

    /// Makes cargo use this toolchain. `flags` are flags of rustc for the target.
    pub(crate) fn configure(&self, cargo: &mut Command, flags: &str) {
        let mut flags = flags.to_owned();
        if let Some(sysroot) = &self.debian_sysroot {
            cargo.env("RUSTC", DEBIAN_RUSTC);
            flags = format!("--sysroot {} {flags}", sysroot.display());
        }
        let variable = |name| {
            let target = self.target.to_uppercase().replace('-', "_");
            format!("CARGO_TARGET_{target}_{name}")
        };
        cargo
            .env(variable("LINKER"), ARM64_LINKER)
            .env(variable("RUSTFLAGS"), flags);
    }
}

/// Returns whether the compiler that cargo uses by default has a library for the target.
fn rustup_has(target: &str) -> Result<bool> {
    let sysroot = process::read_stdout(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(target)
        .exists())
}

/// Fetches the library of Debian's compiler, and returns its sysroot. It must have exactly the compiler's version.
fn fetch_library(architecture: Architecture) -> Result<PathBuf> {
    let version = apt::installed_version(DEBIAN_COMPILER)?;
    let name = architecture.debian_name();
    let cache = workspace::target("cross").join(format!("{DEBIAN_LIBRARY}-{version}-{name}"));
    if !cache.exists() {
        let package = format!("{DEBIAN_LIBRARY}={version}");
        info!("fetching {package} for {name} (once)");
        let unpacked = workspace::temporary_path(&cache, "unpacked");
        Packages::of(architecture)?.unpack(&[package], &unpacked)?;
        fs::rename(&unpacked, &cache)?;
    }
    Ok(cache.join("usr"))
}
