//! Whatever names a recording and a command line contain, text output has no control characters except line breaks and the
//! collector's own styles, and no characters that reorder or hide text. VMs of the same name stay different rows.

mod hostile_recording;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod screen;
#[path = "../common/simulated_host.rs"]
#[expect(dead_code, reason = "other tests use all of it")]
mod simulated_host;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;

use std::{
    fs,
    process::{Command, Output},
};

use crate::{
    hostile_recording::{HOSTILE, TGIDS, vm_name, write_recording},
    temporary_folder::TemporaryFolder,
};

/// The styles that the collector writes.
const STYLES: [&str; 8] = [
    "\x1b[0m", "\x1b[1m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[31m",
];

/// A recording in a folder, both with hostile names.
struct Hostile {
    _folder: TemporaryFolder,
    /// Path of the recording.
    file: String,
    /// Path of the recording's folder.
    within: String,
}

impl Hostile {
    fn new() -> Self {
        let folder = TemporaryFolder::new();
        let within = folder.file(&HOSTILE.replace('/', ""));
        fs::create_dir(&within).expect("a folder");
        let file = within.join("\x1b[2Jk\u{202e}.data");
        write_recording(&file);
        let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
        Self {
            file: text(&file),
            within: text(&within),
            _folder: folder,
        }
    }

    fn run(&self, command: &str) -> Output {
        let mut args = Vec::new();
        for word in command.split(' ') {
            let word = word.replace("REC", &self.file).replace("DIR", &self.within);
            args.push(word.replace("HOSTILE", HOSTILE));
        }
        Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
            .args(&args)
            .output()
            .expect("the collector runs")
    }

    /// Runs a command that succeeds, and returns its stdout.
    fn stdout(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }
}

fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(
            u32::from(c),
            0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe0000..=0xe0fff
        )
}

fn check_text(command: &str, bytes: &[u8], max_line: usize) {
    let mut text = std::str::from_utf8(bytes)
        .unwrap_or_else(|error| panic!("{command}: {error}"))
        .to_owned();
    if command.contains("--color always") {
        for style in STYLES {
            text = text.replace(style, "");
        }
    }
    if let Some(at) = text.find(is_hostile) {
        panic!(
            "{command}: {:?}",
            text[at..].chars().take(80).collect::<String>()
        );
    }
    for line in text.lines() {
        assert!(!line.starts_with("FAKE"), "{command}: {line}");
        let width = line.chars().count();
        assert!(width <= max_line, "{command}: {width}: {line}");
    }
}

#[test]
fn text_of_a_hostile_recording_is_harmless() {
    let hostile = Hostile::new();
    let json = hostile.stdout("exits -i REC --json");
    fs::write(format!("{}/base.json", hostile.within), json).expect("a file");
    fs::copy(&hostile.file, format!("{}/b\r.data", hostile.within)).expect("a copy");
    // Not all of these print rows, but all of them print names.
    let commands = [
        "stat -i REC",
        "stat -i REC --per-vm",
        "stat -i REC --per-vm --color always",
        "stat -i REC --per-vm -I 50ms",
        "stat -i REC HOSTILE.data --per-vm",
        "stat -i DIR --per-vm",
        "exits -i REC",
        "exits -i REC --by vm",
        "exits -i REC --by vm,vcpu,reason --hist --color always",
        "exits -i REC --by vm --causes 3",
        "exits -i REC --by vm,reason --advice",
        "exits -i REC --slow 1ns",
        "exits -i REC --kind pio",
        "exits -i REC --kind HOSTILE",
        "exits -i REC --by vm --baseline DIR/base.json",
        "exits -i REC --by vm,vcpu,reason --baseline DIR/base.json",
        "exits -i DIR --by host,vm",
        "exits -i REC --reason EPT_*",
        "exits -i REC --vm HOSTILE",
        "exits -i REC --vm *FAKE*",
        "exits -i REC --vm nothing",
        "exits -i REC --vcpu 9",
        "trace -i REC",
        "trace -i REC --color always",
        "trace -i REC --fields",
        "trace -i REC --per-exit",
        "trace -i REC --per-exit --color always",
        "trace -i REC --min-duration 1ns",
        "trace -i REC --reason EPT_*",
        "trace -i REC --filter HOSTILE==1",
        "top -i REC --once",
        "top -i REC --once --by reason",
        "list -i REC",
        "list vms -i REC",
        "list reasons -i REC",
        "list events -i REC -e HOSTILE",
        "convert -i REC --to text -o -",
        "convert -i REC --to text --rows exits -o -",
        "convert -i REC --to text -o DIR/out\x1b[2J.txt",
        "-v convert -i REC -o DIR/\u{202e}.csv",
        // Errors of the command line and of files.
        "exits -i DIR/HOSTILE.missing",
        "exits -i /dev/null/HOSTILE",
        "exits -i REC --sort HOSTILE",
        "exits -i REC --columns HOSTILE",
        "exits -i REC --reason HOSTILE",
        "stat -i REC -e HOSTILE",
        "stat HOSTILE",
        "HOSTILE",
        "--HOSTILE",
        "exits -i REC -o /does/not/exist/HOSTILE",
        "exits -i REC --baseline DIR/HOSTILE",
        "record -o DIR/HOSTILE/HOSTILE",
        "record --trigger HOSTILE",
        "exits --from HOSTILE -i REC",
        "doctor HOSTILE",
    ];
    for command in commands {
        let output = hostile.run(command);
        let max_line = if command.contains("-i") && output.status.success() {
            800
        } else {
            3000
        };
        check_text(command, &output.stdout, max_line);
        check_text(command, &output.stderr, 9000);
        assert!(
            !output.stdout.is_empty() || !output.stderr.is_empty(),
            "{command}"
        );
    }
}

#[test]
fn names_are_shown_with_escapes() {
    let hostile = Hostile::new();
    for command in ["exits -i REC --by vm", "list -i REC", "top -i REC --once"] {
        let text = hostile.stdout(command);
        assert!(text.contains(r"=cmd\x1b[2"), "{command}: {text}");
    }
    let text = hostile.stdout("exits -i REC --by reason");
    assert!(text.contains(r"h\x1b[2J\r\nFAKE\u{202e}lt"), "{text}");
    assert!(
        text.contains(r" of =cmd\x1b[2J\x1b]0;t\x07\u{9b}41m\r\nFAKE\t"),
        "{text}"
    );
    // Of the command line of the recorder.
    assert!(text.contains(r" only for VM =cmd\x1b[2J"), "{text}");
    let trace = hostile.stdout("trace -i REC");
    assert!(
        trace.contains(r": kvm_pio: \x1b[2J\u{202e}\nFAKE \x9b pio_write at 0x3f8"),
        "{trace}"
    );
    assert!(trace.contains(r": kvm_\x1b[2J\u{202e}: "), "{trace}");
}

#[test]
fn json_has_the_exact_names() {
    let hostile = Hostile::new();
    let json = hostile.stdout("exits -i REC --by vm --json");
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    // A recording stores a line per name.
    let name = vm_name().replace(['\n', '\t'], " ");
    assert_eq!(report["rows"][0]["vm"], name);
    assert_eq!(report["host"], HOSTILE);
}

#[test]
fn cells_of_csv_are_no_formulas() {
    let hostile = Hostile::new();
    for command in [
        "exits -i REC --by vm --csv",
        "stat -i REC --per-vm --csv",
        "convert -i REC --to csv -o -",
        "convert -i REC --to csv --rows events -o -",
    ] {
        let csv = hostile.stdout(command);
        assert!(csv.contains(r",'=cmd\x1b[2J"), "{command}: {csv}");
        assert!(!csv.contains(",=") && !csv.contains(",\"="), "{command}");
        let text = csv.replace("\u{202e}\"\"", "");
        if !command.contains("--rows events") {
            check_text(command, text.as_bytes(), usize::MAX);
        }
    }
}

#[test]
fn vms_of_the_same_name_stay_different_rows() {
    let hostile = Hostile::new();
    let json = hostile.stdout("exits -i REC --by vm --json");
    fs::write(format!("{}/base.json", hostile.within), json).expect("a file");
    for command in [
        "exits -i REC --by vm",
        "exits -i REC --by vm,reason --hist",
        "exits -i REC --by vm --baseline DIR/base.json",
        "exits -i REC --slow 1ns",
        "stat -i REC --per-vm",
        "list vms -i REC",
    ] {
        let text = hostile.stdout(command);
        for tgid in TGIDS {
            assert!(text.contains(&format!("(pid {tgid}")), "{command}: {text}");
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-collector"))
        .args(["top", "-i", &hostile.file, "--once"])
        .env("COLUMNS", "200")
        .output()
        .expect("the collector runs");
    let text = String::from_utf8_lossy(&output.stdout);
    for tgid in TGIDS {
        assert!(text.contains(&format!("(pid {tgid})")), "{text}");
    }
}
