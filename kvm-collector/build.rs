//! Copies the object with the eBPF programs to `$OUT_DIR/kvm-ebpf.o`, from where the collector includes it.
//!
//! This script does not build the object, because that needs another compiler; `cargo xtask build-ebpf` does. On a fresh clone
//! `cargo build`, `cargo test` and `cargo clippy` work without it: they include an empty object, and the collector
//! reports that it has no eBPF programs.

use std::{env, fs, io, path::PathBuf};

use object::build::elf::{Builder, SectionData};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=KVM_EBPF_OBJECT");
    let object = env::var_os("KVM_EBPF_OBJECT")
        .map_or_else(|| PathBuf::from("../target/bpf/kvm-ebpf.o"), PathBuf::from);
    // As long as the file is missing, cargo runs this script at each build, so each build prints the warning.
    println!("cargo:rerun-if-changed={}", object.display());

    let bytes = match fs::read(&object) {
        Ok(bytes) => strip_debug_info(&bytes).map_err(|error| {
            io::Error::other(format!(
                "{} is not an eBPF object: {error}",
                object.display()
            ))
        })?,
        Err(error) => {
            println!(
                "cargo:warning=no eBPF object at {} ({error}): this collector cannot collect events; run `cargo xtask build-ebpf`, then build again",
                object.display()
            );
            Vec::new()
        }
    };
    let out_dir = env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| {
        io::Error::other("OUT_DIR is not set: only cargo can run this build script")
    })?;
    fs::write(out_dir.join("kvm-ebpf.o"), bytes)
}

/// Returns the object without its debug information (DWARF, and the source lines in `.BTF.ext`).
///
/// These sections are nine tenths of the object, and the loader would copy a part of them for each program. The kernel needs
/// only `.BTF`.
fn strip_debug_info(bytes: &[u8]) -> object::build::Result<Vec<u8>> {
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
        .any(|prefix| name.starts_with(prefix));
    }
    object.delete_orphans();
    // LLVM stores the names of sections in `.strtab`, together with those of symbols. The builder needs a section for them.
    let names = object.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped)?;
    Ok(stripped)
}
