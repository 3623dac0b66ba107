//! Builds bpf-linker with the same LLVM version as the compiler.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    apt,
    process::{self, info},
    workspace,
};

/// Version of bpf-linker.
const VERSION: &str = "0.13.0";

/// Returns the path of the linker, and builds it if necessary. The path contains the LLVM version, so a compiler with another
/// LLVM gets its own linker.
pub(crate) fn find_or_build(llvm: u32) -> Result<PathBuf> {
    let root = workspace::target(&format!("tools/llvm-{llvm}"));
    let linker = root.join("bin/bpf-linker");
    if !linker.exists() {
        build(llvm, &root)?;
    }
    Ok(linker)
}

fn build(llvm: u32, root: &Path) -> Result<()> {
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{llvm}"));
    let llvm_config = prefix.join("bin/llvm-config");
    if !llvm_config.exists() {
        apt::install(&[&format!("llvm-{llvm}-dev")], "building bpf-linker")?;
    }
    info!("building bpf-linker {VERSION} for LLVM {llvm} (about a minute, once)");
    process::run(
        Command::new("cargo")
            .args(["install", "--quiet", "--locked"])
            .args(["bpf-linker", "--version", VERSION])
            .args(["--no-default-features", "--features"])
            .arg(format!("llvm-{llvm}"))
            .arg("--root")
            .arg(root)
            // The build script needs this to find libLLVM.
            .env("LLVM_PREFIX", prefix),
    )
}
