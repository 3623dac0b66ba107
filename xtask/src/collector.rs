//! Building the collector, with the kernel half in it.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    build_ebpf,
    cargo::{self, Executable},
    process::say,
    workspace,
};

/// Where the collector lies in the VM.
pub(crate) const IN_VM: &str = "/bin/kvm-collector";

/// Builds both halves for this machine and returns the program.
pub(crate) fn build() -> Result<PathBuf> {
    build_ebpf::run()?;
    say!("building the collector");
    let made =
        cargo::build(cargo::cargo().args(["build", "--release", "--package", "kvm-collector"]))?;
    find(&made, false)
}

/// What runs where there is no C library: in the VM.
#[derive(Debug)]
pub(crate) struct StaticBuild {
    pub(crate) collector: PathBuf,
    /// The tests that want a real KVM, `tests/live`.
    pub(crate) live_tests: PathBuf,
}

/// Builds both halves and the live tests, linked statically.
pub(crate) fn build_static() -> Result<StaticBuild> {
    build_ebpf::run()?;
    say!("building the collector and its tests for the VM (the first time takes minutes)");
    let made = cargo::build(
        cargo::cargo()
            .args(["test", "--no-run", "--release"])
            .args(["--package", "kvm-collector", "--test", "live"])
            // Naming the target, even if it is this machine's, keeps the flags away from build scripts and macros.
            .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
            .arg(workspace::target("static"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            // Everything in the VM lies in its memory.
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    )?;
    Ok(StaticBuild {
        collector: find(&made, false)?,
        live_tests: find(&made, true)?,
    })
}

fn find(made: &[Executable], is_test: bool) -> Result<PathBuf> {
    let name = if is_test { "live" } else { "kvm-collector" };
    made.iter()
        .find(|it| it.name == name && it.is_test == is_test)
        .map(|it| it.path.clone())
        .with_context(|| format!("cargo did not say where it put {name}"))
}
