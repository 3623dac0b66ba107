//! The format engine on the formats of real kernels.

use std::path::{Path, PathBuf};

use kvm_collector::tracefs::format::Format;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats")
}

/// Every format of the corpus, with the kernel it is from.
fn corpus() -> Vec<(String, Format)> {
    let mut corpus = Vec::new();
    for kernel in std::fs::read_dir(fixtures()).expect("fixtures") {
        let kernel = kernel.expect("an entry").path();
        for system in ["kvm", "kvmmmu"] {
            let Ok(events) = std::fs::read_dir(kernel.join(system)) else {
                continue;
            };
            for event in events {
                let path = event.expect("an entry").path();
                let text = std::fs::read_to_string(&path).expect("a format");
                let format = Format::parse(system, &text)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                corpus.push((
                    kernel
                        .file_name()
                        .expect("a name")
                        .to_string_lossy()
                        .into_owned(),
                    format,
                ));
            }
        }
    }
    corpus
}

#[test]
fn every_format_compiles() {
    let corpus = corpus();
    assert!(corpus.len() > 90, "only {} formats", corpus.len());
    let degraded: Vec<_> = corpus
        .iter()
        .filter_map(|(kernel, format)| format.print_warning().map(|why| format!("{kernel} {why}")))
        .collect();
    assert!(degraded.is_empty(), "{degraded:#?}");
}
