//! `cargo xtask build-ebpf`: the kernel half, compiled for the BPF target and laid where the collector's build script finds it.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    process::{self, say},
    toolchain::Toolchain,
    workspace,
};

const TARGET: &str = "bpfel-unknown-none";

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
        // Types reach the kernel as BTF, which the linker makes out of full debug information.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Cdebuginfo=2\x1f-Clink-arg=--btf",
        );
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
