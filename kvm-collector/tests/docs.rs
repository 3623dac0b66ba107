//! The documents agree with the program: commands in examples parse, JSON fields are described, and named files exist.

use std::{collections::BTreeSet, fs, path::Path};

use clap::Parser as _;
use kvm_collector::{
    cli::Cli,
    model::{
        Causes, CountsSnapshot, EventCount, EventKind, ExitTotals, Loss, MinMax, ThreadExits,
        VcpuId, VmCounts,
    },
    tracefs::{EventName, Format, ReasonNames},
    view::{
        Baseline, DiffReport, ExitGroups, ExitsOptions, ExitsReport, GroupBy, KeyNames,
        MAX_BASELINE_FILE_BYTES, SortKey, StatReport,
    },
};
use kvm_ebpf_common::{CauseTable, Key, VCPU_UNKNOWN};

fn read_document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Splits a command line as a shell does. Supports only what the documents use: single quotes, and a
/// comment at the end.
fn split_command_line(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            '#' if !is_quoted => break,
            ' ' if !is_quoted => words.push(String::new()),
            c => words.last_mut().expect("a word").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_example_in_a_document_parses() {
    let mut examples = 0;
    for name in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/advice.md",
        "docs/convert.md",
        "docs/exits.md",
        "docs/top.md",
        "docs/json.md",
        "docs/trace.md",
        "docs/containers.md",
        "docs/recording.md",
    ] {
        for line in read_document(name).lines() {
            let line = line.trim_start_matches("$ ").trim_start_matches("    ");
            let line = line.trim_start_matches("$ ");
            if !line.starts_with("kvm-collector ") {
                continue;
            }
            examples += 1;
            if let Err(error) = Cli::try_parse_from(split_command_line(line)) {
                panic!("{name}: `{line}`: {error}");
            }
        }
    }
    assert!(examples > 12, "only {examples} examples found");
}

#[test]
fn every_example_in_the_help_parses() {
    use clap::CommandFactory as _;
    let mut examples = 0;
    for command in Cli::command().get_subcommands() {
        let Some(text) = command.get_after_help() else {
            continue;
        };
        for line in text.to_string().lines().map(str::trim) {
            // Spaces separate the example from its description.
            let line = line.split("   ").next().expect("the first part");
            if line.starts_with("kvm-collector ") {
                examples += 1;
                if let Err(error) = Cli::try_parse_from(split_command_line(line)) {
                    panic!("help of {}: `{line}`: {error}", command.get_name());
                }
            }
        }
    }
    assert!(examples > 8, "only {examples} examples found");
}

/// Adds all keys of the objects in a value.
fn collect_keys(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                collect_keys(value, found);
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| collect_keys(value, found));
        }
        _ => {}
    }
}

fn stat_report() -> StatReport {
    let counts = |time_ns, count| CountsSnapshot {
        time_ns,
        events: vec![EventCount {
            event: EventName {
                system: "kvm".into(),
                name: "kvm_exit".into(),
            },
            count,
            lost: 0,
        }],
        vms: Some(vec![VmCounts {
            tgid: 7,
            name: "web".into(),
            is_vm: true,
            counts: vec![count],
        }]),
        loss: Loss::default(),
    };
    StatReport::between(0, &counts(0, 0), &counts(1_000_000_000, 5))
}

/// Creates reports that together have every field.
fn exits_reports() -> [ExitsReport; 2] {
    let mut totals = ExitTotals {
        count: 1,
        total_ns: 5,
        vmm_ns: 5,
        ..ExitTotals::default()
    };
    totals.histogram[3] = 1;
    let mut table = CauseTable::default();
    table.add(Key::default(), 1);
    let causes = Causes::from(&table);
    let kind = EventKind::from_name("mmio").expect("a kind");
    let format = Format::parse(
        "kvm",
        include_str!("fixtures/formats/6.18-x86_64/kvm/kvm_mmio"),
    )
    .expect("a format");
    [None, Some((&kind, &format))].map(|counted| {
        let by = [GroupBy::Vm, GroupBy::Vcpu, GroupBy::Reason];
        let mut groups = ExitGroups::new(&by, counted.map(|(kind, _)| kind));
        for vcpu in [0, VCPU_UNKNOWN] {
            let exits = ThreadExits {
                vcpu_id: VcpuId {
                    tgid: 7,
                    vcpu,
                    tid: 8,
                },
                key: Key {
                    code: 0xfee0_00b0,
                    ..Key::default()
                },
                totals: &totals,
                recent: MinMax::NONE,
                causes: Some(&causes),
            };
            groups.add_exits(&exits, |_| false);
        }
        let options = ExitsOptions {
            sort: SortKey::Time,
            top: None,
            percentiles: vec![99.9],
            histograms: true,
            causes: 1,
            advice: true,
            preempt_watched: true,
        };
        let names = KeyNames {
            reasons: ReasonNames::new(None),
            counted_event: counted,
            cause_events: Vec::new(),
        };
        let vm_name = |_| "web".into();
        ExitsReport::from_groups(&groups, (0, 1), Loss::default(), &options, &names, &vm_name)
    })
}

fn diff_report(report: &ExitsReport) -> DiffReport {
    let json = serde_json::to_vec(report).expect("JSON");
    let baseline = Baseline::read(&json[..], MAX_BASELINE_FILE_BYTES).expect("our own report");
    DiffReport::compare(report, &baseline, None, None)
}

#[test]
fn every_field_of_json_is_described() {
    let text = read_document("docs/json.md");
    let exits = exits_reports();
    assert!(exits[1].rows.iter().all(|row| row.key_name.is_some()));
    assert!(
        exits
            .iter()
            .flat_map(|it| &it.rows)
            .all(|row| !row.advice.is_empty())
    );
    for report in [
        serde_json::to_value(stat_report()).expect("JSON"),
        serde_json::to_value(diff_report(&exits[1])).expect("JSON"),
        serde_json::to_value(exits).expect("JSON"),
    ] {
        let mut found = BTreeSet::new();
        collect_keys(&report, &mut found);
        assert!(found.len() > 8, "{found:?}");
        for key in found {
            let described = [format!("`{key}`"), format!("`{key}[]`")];
            assert!(
                described.iter().any(|it| text.contains(it)),
                "docs/json.md does not describe `{key}`"
            );
        }
    }
}

/// Returns the cells of a table row.
fn split_cells(line: &str) -> Vec<&str> {
    let line = line.trim().trim_matches('|');
    line.split('|')
        .map(|cell| cell.trim().trim_matches('`'))
        .collect()
}

#[test]
fn the_readme_has_the_measured_costs() {
    let measured = read_document("docs/overhead.md");
    let measured = measured.split("<!-- bench 6.1 -->").nth(1).expect("6.1");
    let measured = measured.split("<!-- bench end -->").next().expect("an end");
    let measured_cost = |tool: &str| {
        let mut rows = measured.lines().map(split_cells);
        let row = rows.find(|row| row[0] == tool);
        row.unwrap_or_else(|| panic!("`{tool}` was not measured"))[2].to_owned()
    };
    let readme = read_document("README.md");
    let table = readme.split("| all events counted |").nth(1);
    let rows: Vec<_> = table
        .expect("a table")
        .lines()
        .skip(2)
        .map_while(|line| line.starts_with('|').then(|| split_cells(line)))
        .collect();
    let mut compared = 0;
    for row in rows {
        for pair in row.chunks(2).filter(|pair| !pair[0].is_empty()) {
            let tool = match pair[0] {
                "perf stat" => "perf stat, all events",
                "kvm-collector record" => "record, all events",
                "perf record" => "perf record, all events",
                "trace-cmd record" => "trace-cmd record, all events",
                "bpftrace, a histogram by reason" => "bpftrace, latency histogram by reason",
                other => other.trim_start_matches("kvm-collector "),
            };
            let cost = pair[1].replace(',', "");
            assert_eq!(cost, measured_cost(tool), "{tool}");
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
}

#[test]
fn every_file_that_a_document_names_exists() {
    const DOCUMENTS: [&str; 4] = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/overhead.md",
    ];
    // The folders to which the names of files are relative.
    const FOLDERS: [&str; 4] = ["", "kvm-collector", "kvm-collector/src", "kvm-ebpf/src"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = 0;
    for name in DOCUMENTS {
        let document = read_document(name);
        let parts: Vec<_> = document.split('`').collect();
        let quotes = parts.chunks_exact(2).map(|it| (it[0], it[1]));
        let is_existing_file = |(before, quoted): &(&str, &str)| {
            let is_file = quoted.ends_with(".rs") || quoted.ends_with('/');
            let is_pattern = quoted.contains(['*', ' ']);
            let is_build_output = quoted.starts_with("target/");
            // The worked examples of CONTRIBUTING.md say which files to create.
            let is_to_be_created = before.trim_end().to_lowercase().ends_with("create");
            is_file && !is_pattern && !is_build_output && !is_to_be_created
        };
        for (_, path) in quotes.filter(is_existing_file) {
            let mut paths = FOLDERS.iter().map(|folder| root.join(folder).join(path));
            assert!(paths.any(|it| it.exists()), "{name} names `{path}`");
            found += 1;
        }
    }
    assert!(found > 20, "only {found} files found");
}
