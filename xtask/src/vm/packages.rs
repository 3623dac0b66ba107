//! Debian packages for the VM: tools that the collector is compared with, such as linux-perf, trace-cmd and bpftrace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{
    cpio::Archive,
    files::{add_file, add_tree},
};
use crate::{
    apt::Packages,
    architecture::Architecture,
    process::{self, info},
    workspace,
};

/// A package and its dependencies, in separate folders.
#[derive(Debug)]
pub(crate) struct Package {
    /// Files of the package, which are all copied to the VM.
    own: PathBuf,
    /// Files of its dependencies. Only linked libraries are copied, because all files would fill the VM's memory.
    dependencies: PathBuf,
    /// The only file of the package that is copied; `None`: all files are copied.
    only: Option<PathBuf>,
}

impl Package {
    /// Returns a package from the cache, or downloads it.
    ///
    /// # Errors
    /// If it cannot be downloaded, or is for a foreign architecture: only the package's own loader finds the libraries of its
    /// programs.
    pub(crate) fn fetch(name: &str, architecture: Architecture) -> Result<Self> {
        if architecture != Architecture::Amd64 {
            bail!(
                "packages with programs cannot be prepared for {}",
                architecture.debian_name()
            );
        }
        let cache = workspace::target("vm/packages").join(name);
        if !cache.exists() {
            let unpacked = workspace::temporary_path(&cache, "unpacked");
            download(name, &unpacked).with_context(|| format!("cannot fetch package {name}"))?;
            fs::rename(&unpacked, &cache)?;
        }
        Ok(Self {
            own: cache.join("own"),
            dependencies: cache.join("dependencies"),
            only: None,
        })
    }

    /// Returns the package with only one of its files.
    pub(super) fn with_only(self, file: &Path) -> Self {
        let only = Some(file.to_owned());
        Self { only, ..self }
    }

    /// Adds the files of the package, the libraries that its programs need, and their loader.
    pub(super) fn add_to(&self, archive: &mut Archive) -> Result<()> {
        let programs = match &self.only {
            Some(file) if !is_program(file) => {
                return add_file(archive, &self.own.join(file), &file.to_string_lossy());
            }
            Some(file) => {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let program = self.own.join(file);
                // Busybox may have a command of the same name in this folder, and the first file of a path is used.
                add_file(archive, &program, &format!("bin/{name}"))?;
                vec![program]
            }
            None => self.add_all_files(archive)?,
        };
        for program in programs {
            for library in self.find_libraries(&program)? {
                let guest = library
                    .strip_prefix(&self.dependencies)
                    .or_else(|_| library.strip_prefix(&self.own))
                    .with_context(|| {
                        format!(
                            "{} is a library of this host, not of a package",
                            library.display()
                        )
                    })?;
                add_file(archive, &library, &guest.to_string_lossy())?;
            }
        }
        add_file(archive, &self.find_loader()?, LOADER)
    }

    /// Adds all files of the package, and returns its programs.
    fn add_all_files(&self, archive: &mut Archive) -> Result<Vec<PathBuf>> {
        for entry in fs::read_dir(&self.own)? {
            let folder = PathBuf::from(entry?.file_name());
            if self.own.join(&folder).is_dir() {
                add_tree(archive, &self.own, &folder)?;
            }
        }
        find_programs(&self.own)
    }

    /// Returns the shared libraries of a program, as its dynamic loader resolves them.
    fn find_libraries(&self, program: &Path) -> Result<Vec<PathBuf>> {
        let search: Vec<_> = [&self.dependencies, &self.own]
            .iter()
            .flat_map(|root| LIBRARY_DIRS.map(|dir| root.join(dir)))
            .collect();
        let list = process::read_stdout(
            Command::new(self.find_loader()?)
                .arg("--library-path")
                .arg(std::env::join_paths(search)?)
                .arg("--list")
                .arg(program),
        )?;
        // `libelf.so.1 => /path/libelf.so.1 (0x...)`. The loader and the vDSO have lines without an arrow.
        Ok(list
            .lines()
            .filter_map(|line| line.split_once(" => ")?.1.split(" (").next())
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .collect())
    }

    fn find_loader(&self) -> Result<PathBuf> {
        LIBRARY_DIRS
            .iter()
            .map(|dir| self.dependencies.join(dir).join("ld-linux-x86-64.so.2"))
            .find(|path| path.exists())
            .context("the package's dependencies have no dynamic loader")
    }
}

/// Path at which every dynamically linked program looks for its loader.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

const LIBRARY_DIRS: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

fn download(name: &str, dir: &Path) -> Result<()> {
    let packages = Packages::of(Architecture::Amd64)?;
    let closure = packages.closure(name)?;
    let (own, dependencies): (Vec<_>, Vec<_>) =
        closure.into_iter().partition(|package| package == name);
    if own.is_empty() {
        bail!("there is no such package, or it is a virtual one");
    }
    info!(
        "fetching {name} and the {} packages it depends on (once)",
        dependencies.len()
    );
    packages.unpack(&own, &dir.join("own"))?;
    packages.unpack(&dependencies, &dir.join("dependencies"))
}

/// The folders with programs.
const PROGRAM_DIRS: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];

/// Returns whether a file of a package is a program.
fn is_program(file: &Path) -> bool {
    let folder = file.parent();
    PROGRAM_DIRS
        .iter()
        .any(|dir| folder == Some(Path::new(dir)))
}

/// Returns the dynamically linked programs of an unpacked package.
fn find_programs(root: &Path) -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for dir in PROGRAM_DIRS {
        let Ok(entries) = fs::read_dir(root.join(dir)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            if !path.is_symlink() && fs::read(&path)?.starts_with(b"\x7fELF") {
                programs.push(path);
            }
        }
    }
    Ok(programs)
}
