//! Paths in the workspace. Everything that xtask creates is under `target/`, so `cargo clean` removes it.

use std::path::{Path, PathBuf};

/// Minimum version of rustc, from the workspace's `rust-version`.
pub(crate) const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// Returns the root folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder in the workspace root")
}

/// Returns a path under the workspace's `target`.
///
/// It ignores `CARGO_TARGET_DIR`, because the collector's build script always looks for the eBPF object here.
pub(crate) fn target(path: &str) -> PathBuf {
    root().join("target").join(path)
}

/// Returns the path of the eBPF object, which `build-ebpf` writes and the collector's build script embeds.
pub(crate) fn ebpf_object() -> PathBuf {
    target("bpf/kvm-ebpf.o")
}

/// Returns a path next to `path` for a file or folder that is not complete yet. The caller renames it when it is complete.
pub(crate) fn temporary_path(path: &Path, suffix: &str) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{suffix}-{}", std::process::id()));
    temporary.into()
}
