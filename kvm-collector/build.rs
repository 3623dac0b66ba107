//! Embeds the kernel half: puts the eBPF object where `include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kvm-ebpf.o"))` finds it.
//!
//! It does not build the object. That takes another compiler, which `cargo xtask build-ebpf` sees to; so plain `cargo build`,
//! `cargo test` and `cargo clippy` work on a fresh clone, with an empty object that the collector refuses to load.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=KVM_EBPF_OBJECT");
    let object = env::var_os("KVM_EBPF_OBJECT")
        .map_or_else(|| PathBuf::from("../target/bpf/kvm-ebpf.o"), PathBuf::from);
    // While the file is missing, cargo takes this as changed every time, so the warning stays until it is heeded.
    println!("cargo:rerun-if-changed={}", object.display());

    let bytes = match fs::read(&object) {
        Ok(bytes) => bytes,
        Err(err) => {
            println!(
                "cargo:warning=no eBPF object at {} ({err}): this collector cannot collect; run `cargo xtask build-ebpf`, then build again",
                object.display()
            );
            Vec::new()
        }
    };
    let out_dir = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other("OUT_DIR is not set: this is a build script of cargo's"))?;
    fs::write(out_dir.join("kvm-ebpf.o"), bytes)
}
