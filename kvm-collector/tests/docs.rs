//! The documents say what the program does: examples parse, and every field of JSON is described.

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
        Baseline, DiffReport, ExitGroups, ExitsOptions, ExitsReport, GroupBy, KeyNames, SortKey,
        StatReport,
    },
};
use kvm_ebpf_common::{CauseTable, Key, VCPU_UNKNOWN};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Splits a command line as a shell would, as far as the documents need it: single quotes, and a
/// comment at the end.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            '#' if !quoted => break,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("there is one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_example_is_a_command_line() {
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
        for line in document(name).lines() {
            let line = line.trim_start_matches("$ ").trim_start_matches("    ");
            let line = line.trim_start_matches("$ ");
            if !line.starts_with("kvm-collector ") {
                continue;
            }
            examples += 1;
            if let Err(error) = Cli::try_parse_from(words(line)) {
                panic!("{name}: `{line}`: {error}");
            }
        }
    }
    assert!(examples > 12, "only {examples} examples found");
}

#[test]
fn every_example_in_the_help_is_a_command_line() {
    use clap::CommandFactory as _;
    let mut examples = 0;
    for command in Cli::command().get_subcommands() {
        let Some(text) = command.get_after_help() else {
            continue;
        };
        for line in text.to_string().lines().map(str::trim) {
            // Two spaces or more separate the example from what it does.
            let line = line.split("   ").next().expect("the first part");
            if line.starts_with("kvm-collector ") {
                examples += 1;
                if let Err(error) = Cli::try_parse_from(words(line)) {
                    panic!("help of {}: `{line}`: {error}", command.get_name());
                }
            }
        }
    }
    assert!(examples > 8, "only {examples} examples found");
}

/// Every key of an object and of all within it.
fn keys(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
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
        vms: vec![VmCounts {
            tgid: 7,
            name: "web".into(),
            counts: vec![count],
        }],
        loss: Loss::default(),
    };
    StatReport::between(0, &counts(0, 0), &counts(1_000_000_000, 5))
}

/// Reports in which every field there can be is there.
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
            groups.add_exits(&ThreadExits {
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
            });
        }
        let options = ExitsOptions {
            sort: SortKey::Time,
            top: None,
            reasons: None,
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
    let baseline = Baseline::parse(&json).expect("our own report");
    DiffReport::compare(report, &baseline, None, None)
}

#[test]
fn every_field_of_json_is_described() {
    let text = document("docs/json.md");
    let exits = exits_reports();
    assert!(exits[1].rows.iter().all(|row| row.name.is_some()));
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
        keys(&report, &mut found);
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

/// The cells of a table's line.
fn cells(line: &str) -> Vec<&str> {
    let line = line.trim().trim_matches('|');
    line.split('|')
        .map(|cell| cell.trim().trim_matches('`'))
        .collect()
}

#[test]
fn the_readmes_costs_are_those_that_were_measured() {
    let measured = document("docs/overhead.md");
    let measured = measured.split("<!-- bench 6.1 -->").nth(1).expect("6.1");
    let measured = measured.split("<!-- bench end -->").next().expect("an end");
    let cost_of = |watcher: &str| {
        let mut rows = measured.lines().map(cells);
        let row = rows.find(|row| row[0] == watcher);
        row.unwrap_or_else(|| panic!("`{watcher}` was not measured"))[2].to_owned()
    };
    let readme = document("README.md");
    let table = readme.split("| all events counted |").nth(1);
    let rows: Vec<_> = table
        .expect("a table")
        .lines()
        .skip(2)
        .map_while(|line| line.starts_with('|').then(|| cells(line)))
        .collect();
    let mut compared = 0;
    for row in rows {
        for pair in row.chunks(2).filter(|pair| !pair[0].is_empty()) {
            let watcher = match pair[0] {
                "perf stat" => "perf stat, all events",
                "kvm-collector record" => "record, all events",
                "perf record" => "perf record, all events",
                "trace-cmd record" => "trace-cmd record, all events",
                "bpftrace, a histogram by reason" => "bpftrace, latency histogram by reason",
                ours_or_perf_kvm => ours_or_perf_kvm.trim_start_matches("kvm-collector "),
            };
            let said = pair[1].replace(',', "");
            assert_eq!(said, cost_of(watcher), "{watcher}");
            compared += 1;
        }
    }
    assert_eq!(compared, 8);
}

#[test]
fn every_file_that_a_document_names_is_there() {
    const DOCUMENTS: [&str; 4] = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/overhead.md",
    ];
    // From where files are named.
    const FROM: [&str; 4] = ["", "kvm-collector", "kvm-collector/src", "kvm-ebpf/src"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = 0;
    for name in DOCUMENTS {
        let document = document(name);
        let quoted = document.split('`').skip(1).step_by(2);
        let is_file = |it: &&str| {
            let is_pattern = it.contains(['*', ' ']);
            let is_made = it.starts_with("target/");
            (it.ends_with(".rs") || it.ends_with('/')) && !is_pattern && !is_made
        };
        for path in quoted.filter(is_file) {
            let is_there = FROM.iter().any(|from| root.join(from).join(path).exists());
            assert!(is_there, "{name} names `{path}`");
            found += 1;
        }
    }
    assert!(found > 20, "{found} only");
}
