//! Checks that the module parameters and events in the advice exist in kernels.

use std::{collections::BTreeSet, fs, path::Path};

use kvm_collector::{
    knowledge::advice::{self, Isa},
    model::EventKind,
    tracefs::Format,
};

use crate::headers::Kernel;

const DOCUMENT: &str = include_str!("../../../docs/advice.md");

/// Modules with known parameters.
const MODULES: [&str; 3] = ["kvm", "kvm_intel", "kvm_amd"];

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_separator = |c: char| c.is_whitespace() || "`,;|()".contains(c);
    text.split(is_separator)
        .map(|word| word.trim_end_matches(['.', ':']))
}

/// Returns the texts of all topics, for all instruction sets.
fn texts() -> impl Iterator<Item = &'static str> {
    let isas = [Isa::Vmx, Isa::Svm, Isa::X86, Isa::Arm64];
    let topics = advice::TOPICS.iter();
    topics.flat_map(move |topic| isas.map(|isa| topic.advice(isa).text))
}

/// Checks that every parameter, written as `MODULE.PARAMETER`, exists in all kernels.
pub(crate) fn compare_parameters(kernels: &[Kernel]) -> Vec<String> {
    let mut differences = BTreeSet::new();
    let mut seen = 0;
    for word in texts().chain([DOCUMENT]).flat_map(words) {
        let Some((module, parameter)) = word.split_once('.') else {
            continue;
        };
        // The kernel's documentation writes `kvm-intel.ept`.
        let module = module.replace('-', "_");
        if !MODULES.contains(&module.as_str()) {
            continue;
        }
        seen += 1;
        for kernel in kernels {
            if !kernel.parameters(&module).contains(parameter) {
                differences.insert(format!("Linux {} has no {word}", kernel.version));
            }
        }
    }
    assert!(seen > 10, "{seen} parameters were found");
    differences.into_iter().collect()
}

/// Checks that every `--kind` exists, and that all kernels of an architecture in the fixtures have its event and field.
pub(crate) fn compare_kinds() -> Vec<String> {
    let mut kinds: BTreeSet<&str> = BTreeSet::new();
    for text in texts() {
        let words: Vec<_> = words(text).collect();
        for pair in words.windows(2) {
            if pair[0] == "--kind" {
                kinds.insert(pair[1]);
            }
        }
    }
    assert!(kinds.len() > 3, "{kinds:?}");
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let mut differences = Vec::new();
    for kind in kinds {
        let kind = match EventKind::from_name(kind) {
            Ok(kind) => kind,
            Err(error) => {
                differences.push(error.to_string());
                continue;
            }
        };
        let has_kind = |kernel: &&str| {
            let path = formats.join(kernel).join("kvm").join(&kind.event);
            let text = fs::read_to_string(&path).unwrap_or_default();
            Format::parse("kvm", &text).is_ok_and(|format| format.field(&kind.code_field).is_some())
        };
        // An event of one architecture is in the advice for that architecture only.
        let x86 = ["6.1-x86_64", "6.12-x86_64", "6.18-x86_64"];
        let arm64 = ["6.1-arm64", "6.12-arm64"];
        if !x86.iter().all(has_kind) && !arm64.iter().all(has_kind) {
            differences.push(format!("no {}.{}", kind.event, kind.code_field));
        }
    }
    differences
}
