//! `cargo xtask build-ebpf`: builds the eBPF object that the collector's build script embeds.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    process::{self, info},
    toolchain::Toolchain,
    workspace,
};

const TARGET: &str = "bpfel-unknown-none";

const RUSTFLAGS: [&str; 4] = [
    // The linker creates the BTF types for the kernel from full debug information.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // With 32-bit registers and all comparisons, programs have a third fewer instructions. Linux has these since 5.1, and
    // ring buffers, which the collector needs anyway, since 5.8.
    "-Ctarget-cpu=v3",
    // Otherwise clearing 16 bytes is a call of a function that stores byte by byte.
    "-Clink-arg=--disable-expand-memcpy-in-order",
];

/// Builds the eBPF object. Writes it only if it has changed.
pub(crate) fn run() -> Result<()> {
    // A separate folder, because two compilers in one folder make cargo rebuild everything each time.
    let target_dir = workspace::target("ebpf");
    let mut cargo = Toolchain::find_or_install()?.cargo();
    cargo
        .current_dir(workspace::root())
        .args(["build", "--package", "kvm-ebpf", "--release"])
        .args(["--target", TARGET, "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    process::run(&mut cargo)?;

    let built_object = target_dir.join(TARGET).join("release/kvm-ebpf");
    let bytes = fs::read(&built_object)
        .with_context(|| format!("cannot read {}", built_object.display()))?;
    let object = workspace::ebpf_object();
    // An unchanged file is not written: its new modification time would make cargo rebuild the collector.
    if fs::read(&object).is_ok_and(|old| old == bytes) {
        info!("{} is up to date", object.display());
        return Ok(());
    }
    if let Some(dir) = object.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&object, bytes).with_context(|| format!("cannot write {}", object.display()))?;
    info!("wrote {}", object.display());
    Ok(())
}
