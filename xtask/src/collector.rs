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
    find(&made, "kvm-collector", false)
}

/// What runs where there is no C library: in the VM.
#[derive(Debug)]
pub(crate) struct StaticBuild {
    pub(crate) collector: PathBuf,
    /// The tests that want a real KVM, `tests/live`.
    pub(crate) live_tests: PathBuf,
    /// The example that attaches programs that do nothing.
    pub(crate) floor: PathBuf,
}

/// Builds both halves and the live tests, linked statically.
pub(crate) fn build_static() -> Result<StaticBuild> {
    build_ebpf::run()?;
    say!("building the collector and its tests for the VM (the first time takes minutes)");
    let made = cargo::build(
        cargo::cargo()
            .args(["test", "--no-run", "--release"])
            .args(["--package", "kvm-collector", "--test", "live"])
            .args(["--example", "floor"])
            // Naming the target, even if it is this machine's, keeps the flags away from build scripts and macros.
            .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
            .arg(workspace::target("static"))
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            // Everything in the VM lies in its memory.
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    )?;
    Ok(StaticBuild {
        collector: find(&made, "kvm-collector", false)?,
        live_tests: find(&made, "live", true)?,
        floor: find(&made, "floor", true)?,
    })
}

fn find(made: &[Executable], name: &str, is_test: bool) -> Result<PathBuf> {
    made.iter()
        .find(|it| it.name == name && it.is_test == is_test)
        .map(|it| it.path.clone())
        .with_context(|| format!("cargo did not say where it put {name}"))
}
