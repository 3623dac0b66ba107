//! The VM's user space.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Packages},
    architecture::Architecture,
    process::{self, info},
    workspace,
};

const PACKAGE: &str = "busybox-static";

/// Returns the path of a statically linked busybox. For this machine's architecture it is an installed one.
pub(super) fn find_or_install(architecture: Architecture) -> Result<PathBuf> {
    if !architecture.is_native() {
        return fetch(architecture);
    }
    if find_installed().is_none() {
        apt::install(&[PACKAGE], "the VM's user space")?;
    }
    find_installed().with_context(|| format!("{PACKAGE} is not installed"))
}

fn find_installed() -> Option<PathBuf> {
    process::find_program("busybox").filter(|path| is_static(path))
}

/// Fetches the package for a foreign architecture once.
fn fetch(architecture: Architecture) -> Result<PathBuf> {
    let name = architecture.debian_name();
    let cache = workspace::target("vm/packages").join(format!("{PACKAGE}-{name}"));
    if !cache.exists() {
        info!("fetching {PACKAGE} for {name} (once)");
        let unpacked = workspace::temporary_path(&cache, "unpacked");
        Packages::of(architecture)?.unpack(&[PACKAGE.to_owned()], &unpacked)?;
        fs::rename(&unpacked, &cache)?;
    }
    let found = ["bin/busybox", "usr/bin/busybox"].map(|path| cache.join(path));
    match found.into_iter().find(|path| is_static(path)) {
        Some(path) => Ok(path),
        None => bail!("{} has no busybox", cache.display()),
    }
}

/// Returns whether a program is statically linked. The VM has no libraries for others.
fn is_static(program: &Path) -> bool {
    let loader = b"/ld-linux";
    fs::read(program).is_ok_and(|bytes| !bytes.windows(loader.len()).any(|window| window == loader))
}
