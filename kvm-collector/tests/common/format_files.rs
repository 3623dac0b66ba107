//! The format files of real kernels in `tests/fixtures/formats`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use kvm_collector::tracefs::{format::Format, kernel_types::KernelTypeTable};

/// One format file.
#[derive(Debug)]
pub(crate) struct FormatFile {
    /// The kernel that the file comes from, such as `6.18-x86_64`.
    pub(crate) kernel: String,
    pub(crate) system: &'static str,
    pub(crate) text: String,
    /// The types of the kernel that the formats use.
    types: Arc<KernelTypeTable>,
}

impl FormatFile {
    pub(crate) fn parse(&self) -> Format {
        self.parse_with_types(self.types.clone())
    }

    /// Parses the file as that of a kernel with these types.
    pub(crate) fn parse_with_types(&self, types: Arc<KernelTypeTable>) -> Format {
        Format::parse_with_types(self.system, &self.text, types)
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.kernel, self.text))
    }
}

pub(crate) fn fixtures_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Reads all format files of the systems `kvm` and `kvmmmu`.
pub(crate) fn read_format_files() -> Vec<FormatFile> {
    let mut files = Vec::new();
    for kernel in std::fs::read_dir(fixtures_folder().join("formats")).expect("fixtures") {
        let kernel = kernel.expect("an entry");
        let types = std::fs::read_to_string(kernel.path().join("types.txt"));
        let types = Arc::new(KernelTypeTable::from_text(&types.unwrap_or_default()));
        for system in ["kvm", "kvmmmu"] {
            let Ok(events) = std::fs::read_dir(kernel.path().join(system)) else {
                continue;
            };
            for event in events {
                let text =
                    std::fs::read_to_string(event.expect("an entry").path()).expect("a format");
                files.push(FormatFile {
                    kernel: kernel.file_name().to_string_lossy().into_owned(),
                    system,
                    text,
                    types: types.clone(),
                });
            }
        }
    }
    files
}
