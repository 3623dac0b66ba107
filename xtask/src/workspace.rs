//! Where things lie. Everything the workshop makes is under `target/`, so `cargo clean` (or `rm -r target`) forgets it all.

use std::path::{Path, PathBuf};

/// The lowest rustc the workspace builds with, from its `rust-version`.
pub(crate) const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace root")
}

/// A path under the workspace's own `target`.
///
/// Deliberately blind to `CARGO_TARGET_DIR`: the collector's build script looks for the eBPF object here, whatever directory
/// cargo was told to build in.
pub(crate) fn target(path: &str) -> PathBuf {
    root().join("target").join(path)
}

/// The object that `build-ebpf` makes and the collector's build script embeds.
pub(crate) fn ebpf_object() -> PathBuf {
    target("bpf/kvm-ebpf.o")
}

/// A place beside `path` to make it in before it gets its name: a half-made thing must never be taken for a whole one.
pub(crate) fn draft_of(path: &Path, what: &str) -> PathBuf {
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{what}-{}", std::process::id()));
    draft.into()
}
