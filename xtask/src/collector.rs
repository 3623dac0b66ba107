//! Builds the collector with the eBPF programs in it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    architecture::Architecture,
    build_ebpf,
    cargo::{self, Executable},
    cross::CrossToolchain,
    process::{as_root, info},
    workspace,
};

/// Path of the collector in the VM.
pub(crate) const PATH_IN_VM: &str = "/bin/kvm-collector";

/// Builds the eBPF programs and the collector for this machine. Returns the path of the collector.
pub(crate) fn build() -> Result<PathBuf> {
    build_ebpf::run()?;
    info!("building the collector");
    let programs =
        cargo::build(cargo::cargo().args(["build", "--release", "--package", "kvm-collector"]))?;
    find_executable(&programs, "kvm-collector", false)
}

/// Statically linked programs for the VM, which has no C library.
#[derive(Debug)]
pub(crate) struct StaticBuild {
    pub(crate) collector: PathBuf,
    /// The live tests, `kvm-collector/tests/live`.
    pub(crate) live_tests: PathBuf,
    /// The example that attaches empty eBPF programs, as the baseline of benchmarks.
    pub(crate) empty_programs: PathBuf,
}

/// Finds or fetches what [`build_static`] needs for an architecture.
///
/// # Errors
/// If it cannot be fetched here. Such an error never means that the collector is broken.
pub(crate) fn check_static(architecture: Architecture) -> Result<()> {
    if !architecture.is_native() {
        CrossToolchain::find_or_install(architecture)?;
    }
    Ok(())
}

/// Builds the eBPF programs. Then builds the collector, the live tests and the example `empty_programs`, linked statically.
pub(crate) fn build_static(architecture: Architecture) -> Result<StaticBuild> {
    build_ebpf::run()?;
    info!(
        "building the collector and its tests for the VM, for {} (the first time takes minutes)",
        architecture.debian_name()
    );
    let mut cargo = cargo::cargo();
    cargo.args(["test", "--no-run", "--release"]);
    link_statically(&mut cargo, architecture)?;
    let programs = cargo::build(
        cargo
            .args(["--package", "kvm-collector", "--test", "live"])
            .args(["--example", "empty_programs"]),
    )?;
    Ok(StaticBuild {
        collector: find_executable(&programs, "kvm-collector", false)?,
        live_tests: find_executable(&programs, "live", true)?,
        empty_programs: find_executable(&programs, "empty_programs", false)?,
    })
}

/// Builds xtask itself, linked statically, to run it in the VM.
pub(crate) fn build_xtask_static() -> Result<PathBuf> {
    let mut cargo = cargo::cargo();
    cargo.args(["build", "--release"]);
    link_statically(&mut cargo, Architecture::Amd64)?;
    let programs = cargo::build(cargo.args(["--package", "xtask"]))?;
    find_executable(&programs, "xtask", false)
}

/// Makes cargo link the programs statically.
fn link_statically(cargo: &mut Command, architecture: Architecture) -> Result<()> {
    const FLAGS: &str = "-C target-feature=+crt-static";

    let folder = if architecture.is_native() {
        // With an explicit target, cargo does not apply RUSTFLAGS to build scripts and macros.
        cargo.env("RUSTFLAGS", FLAGS);
        "static".to_owned()
    } else {
        CrossToolchain::find_or_install(architecture)?.configure(cargo, FLAGS);
        format!("static-{}", architecture.debian_name())
    };
    cargo
        .args(["--target", architecture.rust_target(), "--target-dir"])
        .arg(workspace::target(&folder))
        // The programs must be small, because all files of the VM are in its memory.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    Ok(())
}

fn find_executable(programs: &[Executable], name: &str, is_test: bool) -> Result<PathBuf> {
    programs
        .iter()
        .find(|program| program.name == name && program.is_test == is_test)
        .map(|program| program.path.clone())
        .with_context(|| format!("cargo did not report the path of {name}"))
}

/// Returns whether kvm_exit fires on this host, as `kvm-collector doctor` finds out by running a guest.
pub(crate) fn host_reports_exits(collector: &Path) -> bool {
    as_root(collector)
        .args(["doctor", "--json"])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| exits_fire(&output.stdout))
}

fn exits_fire(doctor: &[u8]) -> bool {
    serde_json::from_slice(doctor).is_ok_and(|report: Value| report["exits_fire"] == true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_fire_only_if_the_report_says_true() {
        assert!(exits_fire(br#"{"exits_fire": true}"#));
        assert!(!exits_fire(br#"{"exits_fire": null}"#));
        assert!(!exits_fire(b"{}"));
        assert!(!exits_fire(b"no json"));
    }
}
