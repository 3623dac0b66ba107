//! Finds or installs a compiler that can build the eBPF programs.
//!
//! There is no prebuilt `core` for the BPF target, so the compiler needs the library source of exactly its version.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::{
    apt, bpf_linker,
    process::{self, info},
    workspace::RUST_VERSION,
};

/// Path of the compiler in Debian's package rustc-web.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

const INSTALL_HINT: &str = "\
to install a compiler for `cargo xtask build-ebpf`, run either
    rustup toolchain install nightly --component rust-src
    cargo binstall bpf-linker
or, on Debian 12 as root (where this command does it for you),
    apt-get install rustc-web rust-web-src";

/// A compiler with its library source, and a linker for its bitcode.
#[derive(Debug)]
pub(crate) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

#[derive(Debug)]
enum Compiler {
    /// Rustup's nightly.
    Nightly,
    /// Debian's package rustc-web.
    Debian,
}

impl Toolchain {
    /// Finds an installed toolchain, and installs what is missing, if permitted. Rustup's nightly is preferred, because if it
    /// is complete, nothing has to be installed.
    pub(crate) fn find_or_install() -> Result<Self> {
        let compiler = if Compiler::Nightly.is_complete() {
            Compiler::Nightly
        } else {
            if !Compiler::Debian.is_complete() {
                apt::install(&DEBIAN_PACKAGES, "a compiler for the BPF target")
                    .map_err(|err| anyhow!("{err:#}\n{INSTALL_HINT}"))?;
            }
            if !Compiler::Debian.is_complete() {
                bail!(
                    "{DEBIAN_RUSTC} is older than {RUST_VERSION} or has no library source\n{INSTALL_HINT}"
                );
            }
            Compiler::Debian
        };
        let llvm = compiler.version()?.llvm;
        let linker = match compiler {
            // Users of a nightly usually have a release build of bpf-linker, which contains a recent LLVM.
            Compiler::Nightly => match process::find_program("bpf-linker") {
                Some(linker) => linker,
                None => bpf_linker::find_or_build(llvm)?,
            },
            // A linker in PATH may be older than Debian's LLVM.
            Compiler::Debian => bpf_linker::find_or_build(llvm)?,
        };
        info!("compiler for eBPF: {}", compiler.description());
        Ok(Self { compiler, linker })
    }

    /// Returns a cargo command that uses this toolchain.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = self.compiler.cargo();
        let linker_dir = self.linker.parent().unwrap_or(Path::new("/"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(linker_dir.to_owned()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(dirs) {
            cargo.env("PATH", path);
        }
        cargo
    }
}

impl Compiler {
    /// Returns whether the compiler is recent enough and has the matching library source.
    fn is_complete(&self) -> bool {
        let Some(required) = parse_release(RUST_VERSION) else {
            return false;
        };
        let has_source = read(self.rustc().args(["--print", "sysroot"])).is_ok_and(|sysroot| {
            Path::new(sysroot.trim())
                .join("lib/rustlib/src/rust/library")
                .exists()
        });
        has_source
            && self
                .version()
                .is_ok_and(|version| version.release >= required)
    }

    fn version(&self) -> Result<Version> {
        let text = read(self.rustc().arg("-vV"))?;
        parse_version(&text).with_context(|| format!("cannot parse rustc's version:\n{text}"))
    }

    fn description(&self) -> &'static str {
        match self {
            Self::Nightly => "rustup's nightly, which has rust-src",
            Self::Debian => "Debian's rustc-web, as rustup's nightly is absent or lacks rust-src",
        }
    }

    fn rustc(&self) -> Command {
        match self {
            // Unlike `rustc +nightly`, this never downloads a toolchain.
            Self::Nightly => command("rustup", &["run", "nightly", "rustc"]),
            Self::Debian => command(DEBIAN_RUSTC, &[]),
        }
    }

    fn cargo(&self) -> Command {
        match self {
            Self::Nightly => command("rustup", &["run", "nightly", "cargo"]),
            Self::Debian => {
                let mut cargo = command("cargo", &[]);
                // Debian's compiler is a stable version. This enables the unstable option to build `core`.
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
        }
    }
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Like `process::read_stdout`, but prints no errors, because a failure is a valid result here.
fn read(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::null()).output()?;
    if !output.status.success() {
        bail!("{} failed", process::format_command(command));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[derive(Debug, PartialEq, Eq)]
struct Version {
    /// Major and minor version of the compiler.
    release: (u32, u32),
    /// Major version of the compiler's LLVM.
    llvm: u32,
}

/// Parses the output of `rustc -vV`.
fn parse_version(text: &str) -> Option<Version> {
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
    Some(Version {
        release: parse_release(field("release: ")?)?,
        llvm: field("LLVM version: ")?.split('.').next()?.parse().ok()?,
    })
}

/// Parses `1.95`, `1.96.0` or `1.97.0-nightly`. Returns the major and the minor version.
fn parse_release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_nightly_is_parsed() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        let expected = Version {
            release: (1, 97),
            llvm: 22,
        };
        assert_eq!(parse_version(text), Some(expected));
    }

    #[test]
    fn releases_compare_as_numbers() {
        assert!(parse_release("1.100.0") > parse_release("1.95"));
        assert_eq!(parse_release("unknown"), None);
    }
}
