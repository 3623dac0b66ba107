//! Embeds the kernel half: puts the eBPF object where `include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kvm-ebpf.o"))` finds it.
//!
//! It does not build the object. That takes another compiler, which `cargo xtask build-ebpf` sees to; so plain `cargo build`,
//! `cargo test` and `cargo clippy` work on a fresh clone, with an empty object that the collector refuses to load.

use std::{env, fs, io, path::PathBuf};

use object::build::elf::{Builder, SectionData};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=KVM_EBPF_OBJECT");
    let object = env::var_os("KVM_EBPF_OBJECT")
        .map_or_else(|| PathBuf::from("../target/bpf/kvm-ebpf.o"), PathBuf::from);
    // While the file is missing, cargo takes this as changed every time, so the warning stays until it is heeded.
    println!("cargo:rerun-if-changed={}", object.display());

    let bytes = match fs::read(&object) {
        Ok(bytes) => without_debug_info(&bytes).map_err(|error| {
            io::Error::other(format!("{} is no eBPF object: {error}", object.display()))
        })?,
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

/// Leaves out what the linker makes BTF of, and what the verifier's complaints would quote of the source: that is nine tenths of the
/// object, and each program would have a copy of its part when the collector starts. The kernel takes BTF only.
fn without_debug_info(bytes: &[u8]) -> object::build::Result<Vec<u8>> {
    let mut object = Builder::read(bytes)?;
    for section in &mut object.sections {
        let name = section.name.to_vec();
        section.delete |= [
            &b".debug_"[..],
            b".rel.debug_",
            b".BTF.ext",
            b".rel.BTF.ext",
        ]
        .iter()
        .any(|it| name.starts_with(it));
    }
    object.delete_orphans();
    // LLVM keeps the sections' names among the symbols'; the builder does not.
    let names = object.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped)?;
    Ok(stripped)
}
