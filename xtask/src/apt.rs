//! Installs and downloads Debian packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
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

/// A suite of Debian's archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Suite {
    /// The archive: `debian` or `debian-security`.
    pub(crate) archive: &'static str,
    /// Its name, for example `sid`.
    pub(crate) name: &'static str,
}

/// Keys that sign Debian's suites, from the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where Debian's archives are.
const DEBIAN: &str = "http://deb.debian.org";

/// The packages of one architecture, to download. Nothing is installed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packages {
    architecture: Architecture,
    /// Empty: the sources of this system.
    suites: &'static [Suite],
}

impl Packages {
    /// Returns the packages that this system's sources have for an architecture, with current lists.
    pub(crate) fn of(architecture: Architecture) -> Result<Self> {
        Self::of_suites(&[], architecture)
    }

    /// Returns the packages of Debian's suites, whatever this system's sources are. Without suites, those of this system.
    pub(crate) fn of_suites(suites: &'static [Suite], architecture: Architecture) -> Result<Self> {
        if !is_available() {
            bail!("this system has no apt-get to download Debian packages");
        }
        let packages = Self {
            architecture,
            suites,
        };
        match packages.own_dir() {
            Some(dir) => packages.update_own_lists_once(&dir)?,
            None => update_once()?,
        }
        Ok(packages)
    }

    /// Updates lists that are separate, so that this system's apt does not change.
    fn update_own_lists_once(self, dir: &Path) -> Result<()> {
        static UPDATED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
        let mut updated = UPDATED.lock().unwrap_or_else(PoisonError::into_inner);
        if updated.iter().any(|it| it == dir) {
            return Ok(());
        }
        for folder in ["state/lists/partial", "cache/archives/partial", "parts"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        if !self.suites.is_empty() {
            let line = |suite: &Suite| {
                let Suite { archive, name } = suite;
                format!("deb [signed-by={KEYRING}] {DEBIAN}/{archive} {name} main\n")
            };
            let sources: String = self.suites.iter().map(line).collect();
            fs::write(dir.join("sources.list"), sources)?;
        }
        info!("updating the package lists of {}", self.name());
        process::run(self.apt("apt-get").args(["update", "-qq"]))?;
        updated.push(dir.to_owned());
        Ok(())
    }

    fn name(self) -> String {
        let architecture = self.architecture.debian_name();
        match self.suites.first() {
            Some(suite) => format!("{}-{architecture}", suite.name),
            None => architecture.to_owned(),
        }
    }

    /// Folder of apt's state if it is not this system's.
    fn own_dir(self) -> Option<PathBuf> {
        let is_of_system = self.suites.is_empty() && self.architecture.is_native();
        (!is_of_system).then(|| workspace::target("apt").join(self.name()))
    }

    /// Returns a command of apt for these packages.
    fn apt(self, program: &str) -> Command {
        let mut apt = Command::new(program);
        let Some(dir) = self.own_dir() else {
            return apt;
        };
        let (dir, name) = (dir.display(), self.architecture.debian_name());
        let mut options = vec![
            format!("Dir::State={dir}/state"),
            format!("Dir::Cache={dir}/cache"),
            "Dir::State::status=/dev/null".to_owned(),
            format!("APT::Architecture={name}"),
            format!("APT::Architectures={name}"),
            // Otherwise apt warns if its own download user has no access to the folder.
            "APT::Sandbox::User=root".to_owned(),
        ];
        if !self.suites.is_empty() {
            options.extend([
                format!("Dir::Etc::SourceList={dir}/sources.list"),
                format!("Dir::Etc::SourceParts={dir}/parts"),
                // The lists of packages are enough.
                "Acquire::Languages=none".to_owned(),
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            ]);
        }
        for option in &options {
            apt.args(["-o", option]);
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
        fs::create_dir_all(dir)?;
        if packages.is_empty() {
            return Ok(());
        }
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
