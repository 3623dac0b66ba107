//! What ARCHITECTURE.md says of the modules, read from their `use` lines: nobody depends on who depends on them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The modules, each of which may use those before it.
const ORDER: [&str; 15] = [
    "tracefs",
    "host",
    "guest",
    "doctor",
    "model",
    "timing",
    "probe",
    "recording",
    "source",
    "view",
    "format",
    "convert",
    "session",
    "tui",
    "cli",
];

/// Besides `probe` itself, what may use the running kernel.
const USES_PROBE: [&str; 3] = ["source/live.rs", "session/", "cli/"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file under a folder, by its path from `src/`, without its tests and comments.
fn files(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, all);
        } else if path.file_name().is_some_and(|it| it != "tests.rs") {
            let text = fs::read_to_string(&path).expect("text");
            let code = text.split("#[cfg(test)]\nmod tests {").next();
            let lines = code.unwrap_or_default().lines();
            let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
            let name = path.strip_prefix(source()).expect("below src");
            let code = lines.collect::<Vec<_>>().join("\n");
            all.push((name.display().to_string(), code));
        }
    }
}

fn all_files() -> Vec<(String, String)> {
    let mut all = Vec::new();
    files(&source(), &mut all);
    assert!(all.len() > 100, "{}", all.len());
    all
}

/// The modules that a file uses: `crate::name`, also within braces.
fn used(code: &str) -> Vec<&str> {
    let mut used = Vec::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            // One to a line, as rustfmt writes it, or all in one line.
            Some(list) => {
                let mut depth = 0;
                let mut name = 0;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            used.push(first_word(&list[name..]));
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            used.push(first_word(&list[name..]));
                            name = at + 1;
                        }
                        _ => {}
                    }
                }
            }
            None => used.push(first_word(rest)),
        }
    }
    used
}

fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn arrows_between_modules_go_down() {
    let place = |module: &str| ORDER.iter().position(|it| *it == module);
    let mut arrows = 0;
    for (file, code) in all_files() {
        let Some((module, _)) = file.split_once('/') else {
            continue;
        };
        let from = place(module).unwrap_or_else(|| panic!("{module} has no place in the order"));
        for to in used(&code) {
            let Some(to) = place(to).filter(|it| *it != from) else {
                continue;
            };
            arrows += 1;
            assert!(to < from, "{file} uses {}, which is above it", ORDER[to]);
        }
    }
    assert!(arrows > 200, "{arrows}: are they found?");
}

#[test]
fn a_recording_is_read_without_the_running_kernel() {
    for (file, code) in all_files() {
        let may_use = |prefixes: &[&str]| prefixes.iter().any(|it| file.starts_with(it));
        let names_aya = ["aya::", "use aya", "aya_log", "aya_obj"]
            .iter()
            .any(|it| code.contains(it));
        assert!(!names_aya || may_use(&["probe/"]), "{file} names aya");
        let uses_probe = used(&code).contains(&"probe");
        assert!(
            !uses_probe || may_use(&["probe/"]) || may_use(&USES_PROBE),
            "{file} uses probe"
        );
    }
}

#[test]
fn the_used_modules_of_a_file_are_found() {
    let code = "use crate::{\n    host::{self, clock},\n    model::Event,\n};\nuse crate::view::Row;\ncrate::probe::run();";
    assert_eq!(used(code), ["host", "model", "", "view", "probe"]);
}
