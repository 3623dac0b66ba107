//! The format files of real kernels that are kept beside the tests.

use std::path::{Path, PathBuf};

use kvm_collector::tracefs::format::Format;

/// One format file.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The kernel it is from, such as `6.18-x86_64`.
    pub(crate) kernel: String,
    pub(crate) system: &'static str,
    pub(crate) text: String,
}

impl Sample {
    pub(crate) fn format(&self) -> Format {
        Format::parse(self.system, &self.text)
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.kernel, self.text))
    }
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every format file kept.
pub(crate) fn corpus() -> Vec<Sample> {
    let mut corpus = Vec::new();
    for kernel in std::fs::read_dir(fixtures().join("formats")).expect("fixtures") {
        let kernel = kernel.expect("an entry");
        for system in ["kvm", "kvmmmu"] {
            let Ok(events) = std::fs::read_dir(kernel.path().join(system)) else {
                continue;
            };
            for event in events {
                let text =
                    std::fs::read_to_string(event.expect("an entry").path()).expect("a format");
                corpus.push(Sample {
                    kernel: kernel.file_name().to_string_lossy().into_owned(),
                    system,
                    text,
                });
            }
        }
    }
    corpus
}
