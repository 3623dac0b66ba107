//! Installs and downloads Debian packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    architecture::Architecture,
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

/// Updates this system's package lists before their first use. A fresh machine has none, and old lists name files that no
/// longer exist.
pub(crate) fn update_once() -> Result<()> {
    static UPDATED: OnceLock<()> = OnceLock::new();
    if UPDATED.set(()).is_err() || !process::is_root() {
        return Ok(());
    }
    info!("updating the package lists");
    process::run(Command::new("apt-get").args(["update", "-qq", "-o", LOCK_TIMEOUT]))
}

/// The packages of one architecture, to download. Nothing is installed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packages(Architecture);

impl Packages {
    /// Returns the packages of an architecture, with current lists.
    pub(crate) fn of(architecture: Architecture) -> Result<Self> {
        if !is_available() {
            bail!("this system has no apt-get to download Debian packages");
        }
        let packages = Self(architecture);
        if architecture.is_native() {
            update_once()?;
        } else {
            packages.update_own_lists_once()?;
        }
        Ok(packages)
    }

    /// Updates the lists of a foreign architecture. They are separate, so that this system's apt does not change.
    fn update_own_lists_once(self) -> Result<()> {
        static UPDATED: OnceLock<()> = OnceLock::new();
        if UPDATED.set(()).is_err() {
            return Ok(());
        }
        let dir = self.own_dir();
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        info!("updating the package lists of {}", self.0.debian_name());
        process::run(self.apt("apt-get").args(["update", "-qq"]))
    }

    /// Folder of apt's state for a foreign architecture.
    fn own_dir(self) -> PathBuf {
        workspace::target("apt").join(self.0.debian_name())
    }

    /// Returns a command of apt for the architecture.
    fn apt(self, program: &str) -> Command {
        let mut apt = Command::new(program);
        if !self.0.is_native() {
            let (dir, name) = (self.own_dir(), self.0.debian_name());
            let option = |apt: &mut Command, option: String| {
                apt.args(["-o", &option]);
            };
            option(&mut apt, format!("Dir::State={}/state", dir.display()));
            option(&mut apt, format!("Dir::Cache={}/cache", dir.display()));
            option(&mut apt, "Dir::State::status=/dev/null".to_owned());
            option(&mut apt, format!("APT::Architecture={name}"));
            option(&mut apt, format!("APT::Architectures={name}"));
            // Otherwise apt warns if its own download user has no access to the folder.
            option(&mut apt, "APT::Sandbox::User=root".to_owned());
        }
        apt
    }

    /// Returns the names of packages that match an extended regular expression.
    pub(crate) fn search(self, pattern: &str) -> Result<Vec<String>> {
        let found =
            process::read_stdout(
                self.apt("apt-cache")
                    .args(["search", "--names-only", pattern]),
            )?;
        Ok(found
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect())
    }

    /// Returns the package and all its dependencies, including installed ones.
    pub(crate) fn closure(self, package: &str) -> Result<Vec<String>> {
        let plan = process::read_stdout(
            self.apt("apt-get")
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
    pub(crate) fn unpack(self, packages: &[String], dir: &Path) -> Result<()> {
        let debs = workspace::temporary_path(dir, "debs");
        fs::create_dir_all(&debs)?;
        process::run(
            self.apt("apt-get")
                .current_dir(&debs)
                // Otherwise apt warns if its own download user has no access to the folder.
                .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
                .args(packages),
        )?;
        for deb in fs::read_dir(&debs)? {
            process::run(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(dir))?;
        }
        fs::remove_dir_all(&debs)?;
        Ok(())
    }
}

/// Returns the version of an installed package.
pub(crate) fn installed_version(package: &str) -> Result<String> {
    process::read_stdout(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${Version}",
        package,
    ]))
    .with_context(|| format!("package {package} is not installed"))
}
