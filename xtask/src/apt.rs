//! Installs and downloads Debian packages.

use std::{path::Path, process::Command, sync::OnceLock};

use anyhow::{Result, bail};

use crate::{
    process::{self, info},
    workspace,
};

/// Option of apt-get: wait up to ten minutes while another process uses the package database.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=600";

/// Installs packages. `why` is their purpose, for the message.
///
/// # Errors
/// If there is no apt, or the user is not root. The message contains the command to run.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let manual_command = format!("apt-get install {}", packages.join(" "));
    if !is_available() {
        bail!(
            "{why} needs more packages, and this system has no apt-get to install them (on Debian: `{manual_command}`): install them with this system's package manager"
        );
    }
    if !process::is_root() {
        bail!("{why} needs more packages: run `sudo {manual_command}`, or this command as root");
    }
    update_once()?;
    info!("installing {} for {why}", packages.join(" "));
    process::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(["-o", "Dpkg::Use-Pty=0", "-o", LOCK_TIMEOUT])
            .args(packages),
    )
}

/// Returns whether this system has apt.
pub(crate) fn is_available() -> bool {
    process::find_program("apt-get").is_some()
}

/// Updates the package lists before their first use. A fresh machine has none, and old lists name files that no longer
/// exist.
pub(crate) fn update_once() -> Result<()> {
    static UPDATED: OnceLock<()> = OnceLock::new();
    if UPDATED.set(()).is_err() || !process::is_root() {
        return Ok(());
    }
    info!("updating the package lists");
    process::run(Command::new("apt-get").args(["update", "-qq", "-o", LOCK_TIMEOUT]))
}

/// Returns the names of available packages that match an extended regular expression.
pub(crate) fn search(pattern: &str) -> Result<Vec<String>> {
    let found =
        process::read_stdout(Command::new("apt-cache").args(["search", "--names-only", pattern]))?;
    Ok(found
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// Returns the package and all its dependencies, including installed ones.
pub(crate) fn closure(package: &str) -> Result<Vec<String>> {
    let plan = process::read_stdout(
        Command::new("apt-get")
            .args(["install", "--simulate", "-qq", "--no-install-recommends"])
            .args(["-o", "Dir::State::status=/dev/null"])
            .arg(package),
    )?;
    Ok(plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// Downloads packages and unpacks them to `dir`, without installing them.
pub(crate) fn unpack(packages: &[String], dir: &Path) -> Result<()> {
    let debs = workspace::temporary_path(dir, "debs");
    std::fs::create_dir_all(&debs)?;
    process::run(
        Command::new("apt-get")
            .current_dir(&debs)
            // Otherwise apt warns if its own download user has no access to the folder.
            .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
            .args(packages),
    )?;
    for deb in std::fs::read_dir(&debs)? {
        process::run(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(dir))?;
    }
    std::fs::remove_dir_all(&debs)?;
    Ok(())
}
