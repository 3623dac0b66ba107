//! Checks the rules of ARCHITECTURE.md for modules: there are no cycles, and dependencies point downward.

mod graph;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use graph::{Graph, cycles};

/// The top-level modules. Each may use those before it.
const ORDER: [&str; 19] = [
    "outside_text",
    "bounds",
    "output_file",
    "tracefs",
    "host",
    "guest",
    "knowledge",
    "model",
    "timing",
    "probe",
    "recording",
    "source",
    "doctor",
    "view",
    "format",
    "convert",
    "session",
    "tui",
    "cli",
];

/// Architectures of which the modules are checked.
const TARGET_ARCHS: [&str; 2] = ["x86_64", "aarch64"];

/// The modules that may use `probe`.
const USES_PROBE: [&str; 5] = ["probe", "source::live", "doctor", "session", "cli"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn collector() -> Graph {
    Graph::read(&workspace().join("kvm-collector/src"), TARGET_ARCHS[0])
}

fn is_within(module: &str, outer: &str) -> bool {
    let rest = module.strip_prefix(outer);
    rest.is_some_and(|it| it.is_empty() || it.starts_with("::"))
}

#[test]
fn modules_have_no_cycles() {
    let mut found = String::new();
    for (name, min_modules) in [
        ("kvm-collector", 250),
        ("kvm-ebpf", 20),
        ("kvm-ebpf-common", 10),
        ("xtask", 30),
    ] {
        for target_arch in TARGET_ARCHS {
            let uses = Graph::read(&workspace().join(name).join("src"), target_arch).uses();
            assert!(uses.len() >= min_modules, "{name}: {} modules", uses.len());
            for cycle in cycles(&uses) {
                found += &format!("{name} on {target_arch}: {}", describe(&cycle, &uses));
            }
        }
    }
    assert!(found.is_empty(), "{found}");
}

/// The uses within a cycle, one per line.
fn describe(cycle: &BTreeSet<String>, uses: &BTreeMap<String, BTreeSet<String>>) -> String {
    let mut text = format!("cycle of {} modules:\n", cycle.len());
    for module in cycle {
        for used in uses[module].intersection(cycle) {
            text += &format!("  {module} -> {used}\n");
        }
    }
    text
}

#[test]
fn dependencies_between_modules_point_downward() {
    let position = |module: &str| {
        let top = module.split("::").next().unwrap_or_default();
        ORDER.iter().position(|it| *it == top)
    };
    let mut checked = 0;
    for (module, uses) in collector().uses() {
        if ["", "main"].contains(&module.as_str()) {
            continue;
        }
        let from = position(&module).unwrap_or_else(|| panic!("{module} is not in ORDER"));
        for used in uses {
            let to = position(&used).unwrap_or_else(|| panic!("{module} uses {used}"));
            assert!(to <= from, "{module} uses {used}, which is above it");
            checked += usize::from(to < from);
        }
    }
    assert!(checked > 200, "{checked} dependencies were found");
}

#[test]
fn only_probe_uses_aya_and_few_modules_use_probe() {
    let graph = collector();
    let users = graph.users_of_crates(&["aya", "aya_log", "aya_obj"]);
    assert!(users.len() > 3, "{users:?}");
    for module in users {
        assert!(is_within(&module, "probe"), "{module} uses aya");
    }
    for (module, uses) in graph.uses() {
        let may_use_probe = USES_PROBE.iter().any(|it| is_within(&module, it));
        let uses_probe = uses.iter().any(|it| is_within(it, "probe"));
        assert!(!uses_probe || may_use_probe, "{module} uses probe");
    }
}

#[test]
fn modules_of_each_architecture_are_found() {
    for target_arch in TARGET_ARCHS {
        let uses = Graph::read(&workspace().join("kvm-collector/src"), target_arch).uses();
        let of_vm = &uses["guest::vm"];
        assert!(
            of_vm.contains(&format!("guest::{target_arch}::vcpu")),
            "{of_vm:?}"
        );
    }
}

#[test]
fn cycles_are_found() {
    let uses = |edges: &[(&str, &str)]| {
        let mut uses = BTreeMap::<String, BTreeSet<String>>::new();
        for (from, to) in edges {
            uses.entry((*to).to_owned()).or_default();
            uses.entry((*from).to_owned())
                .or_default()
                .insert((*to).to_owned());
        }
        cycles(&uses)
    };
    assert!(uses(&[("a", "b"), ("b", "c"), ("a", "c")]).is_empty());
    let cycle = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
    assert_eq!(
        uses(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]),
        [cycle]
    );
}

/// A recording may be from another user, so no part that reads its contents can open a file or start a program. What is opened
/// are the recording itself and the outputs.
#[test]
fn what_reads_recordings_opens_no_other_file() {
    let readers = [
        "recording",
        "source",
        "timing",
        "model",
        "view",
        "format",
        "convert",
        "knowledge",
        "tracefs::format",
        "tracefs::print_fmt",
    ];
    // Open the recording, which may be a directory.
    let opens_input = ["recording::reader", "recording::directory"];
    // Read the running kernel, and are not used for recordings.
    let is_live = |module: &str| is_within(module, "source::live");
    let graph = collector();
    let users = graph.users_of_paths(&[
        &["fs"],
        &["std", "fs"],
        &["rustix", "fs"],
        &["tokio", "fs"],
        &["OpenOptions"],
        &["File", "open"],
        &["File", "create"],
        &["File", "create_new"],
        &["File", "options"],
        &["Command", "new"],
    ]);
    assert!(users.iter().any(|it| it == "recording::reader"));
    for module in users {
        let is_reader = readers.iter().any(|it| is_within(&module, it));
        let may_open = opens_input.contains(&module.as_str()) || is_live(&module);
        assert!(!is_reader || may_open, "{module} can open files");
    }
    for (module, uses) in graph.uses() {
        // The sandbox only asks in which directories outputs are.
        let writers = ["cli", "recording", "host::sandbox"];
        let may_write = writers.iter().any(|it| is_within(&module, it));
        let writes = uses.iter().any(|it| is_within(it, "output_file"));
        let is_own = is_within(&module, "output_file") || module.is_empty();
        assert!(!writes || may_write || is_own, "{module} opens outputs");
    }
}
