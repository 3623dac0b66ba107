//! `cargo xtask build-ebpf`: the kernel half, compiled for the BPF target and laid where the collector's build script finds it.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    process::{self, say},
    toolchain::Toolchain,
    workspace,
};

const TARGET: &str = "bpfel-unknown-none";

const RUSTFLAGS: [&str; 4] = [
    // Types reach the kernel as BTF, which the linker makes out of full debug information.
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    // 32-bit registers and all comparisons, which Linux has since 5.1: a third fewer instructions than without. (Ring buffers,
    // without which nothing works here, came with 5.8.)
    "-Ctarget-cpu=v3",
    // As it would be otherwise, zeroing 16 bytes is a call of a function that stores one byte after the other.
    "-Clink-arg=--disable-expand-memcpy-in-order",
];

pub(crate) fn run() -> Result<()> {
    // A directory of its own: another compiler in the usual one would make cargo rebuild everything at every change of hands.
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

    let built = target_dir.join(TARGET).join("release/kvm-ebpf");
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let object = workspace::ebpf_object();
    // An untouched file keeps its time, and so keeps cargo from rebuilding the collector.
    if fs::read(&object).is_ok_and(|old| old == bytes) {
        say!("{} is up to date", object.display());
        return Ok(());
    }
    if let Some(dir) = object.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&object, bytes).with_context(|| format!("cannot write {}", object.display()))?;
    say!("wrote {}", object.display());
    Ok(())
}
