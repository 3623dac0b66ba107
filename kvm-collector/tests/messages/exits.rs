//! The text of `exits` reports and of its help.

use crate::{run, sample::write_mixed_recording, temporary_folder::TemporaryFolder};

/// Returns what `exits` writes about a recording.
fn exits_of(args: &[&str]) -> String {
    let folder = TemporaryFolder::new();
    let file = folder.file("kvm.data");
    write_mixed_recording(&file);
    let file = file.to_str().expect("UTF-8");
    let output = run(&[&["exits", "-i", file], args].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn a_report_without_slow_exits_says_so() {
    let none = exits_of(&["--slow", "20s", "--top", "1"]);
    let line = "no exit took longer than 20.00 s, without halted time; the longest took ";
    assert_eq!(none.matches(line).count(), 1, "{none}");
    let intervals = exits_of(&["--slow", "20s", "-I", "10us"]);
    assert_eq!(intervals.matches(line).count(), 1, "{intervals}");
    let events = exits_of(&["--slow", "20s", "--kind", "pio"]);
    assert!(events.contains("no event took longer than"), "{events}");

    let some = exits_of(&["--slow", "1ns"]);
    assert!(!some.contains("no exit took"), "{some}");
    // The heading of the report is above the slow exits.
    let heading = some.find("  VM exits").expect("a heading");
    let section = some.find("exits that took longer than").expect("a section");
    assert!(heading < section, "{some}");
    assert!(!exits_of(&["--slow", "20s", "--json"]).contains("no exit took"));
}

#[test]
fn the_help_defines_cost_and_idle_time() {
    let help = run(&["exits", "--help"]).stdout;
    let help = String::from_utf8(help).expect("UTF-8");
    let words: Vec<_> = help.split_whitespace().collect();
    let help = words.join(" ");
    for definition in [
        "idle is the time during which the guest had nothing to do",
        "cost is the rest of the time of the exits",
        "cost% is the share of a row in the cost of all rows",
    ] {
        assert!(help.contains(definition), "{definition}");
    }
}
