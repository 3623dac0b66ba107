//! Intervals and durations.

use serde_json::Value;

use crate::{
    collector::{CPUID, HLT, contended_vms, report, reports},
    recording_file::{RecordingFile, VM_A, entry, exit},
};

/// Returns the sum of a field over all reports, for each value of `key` in their rows.
fn sum_by_key(reports: &[Value], rows: &str, key: &str, field: &str) -> Vec<(String, u64)> {
    let mut sums = std::collections::BTreeMap::new();
    for row in reports
        .iter()
        .flat_map(|it| it[rows].as_array().expect("rows"))
    {
        let number = row[field].as_u64().unwrap_or(0);
        *sums.entry(row[key].to_string()).or_default() += number;
    }
    sums.into_iter().filter(|(_, sum)| *sum > 0).collect()
}

#[test]
fn intervals_add_up_to_the_total_over_any_gap() {
    let thread = (VM_A, VM_A + 1);
    // Among the exits are one across the end of an interval, and ones that last 50 seconds and 146 years. The last
    // interval is partial.
    let mut at = 1_000;
    let mut items = Vec::new();
    for step in [100, 900_000, 3, 50_000_000_000, 17, 1 << 62, 400_000] {
        items.push(exit(at, thread, 0, if step % 2 == 0 { CPUID } else { HLT }));
        at += step;
        items.push(entry(at, thread, 0));
        at += 1_000;
    }
    let file = RecordingFile::new(&items);
    for interval in ["1us", "300us", "1s"] {
        let mut stat = reports(&file, &["stat", "--json", "-I", interval]);
        let total = stat.pop().expect("a total");
        assert!(stat.len() <= 2 * items.len() + 1, "{}", stat.len());
        assert_eq!(
            sum_by_key(&stat, "events", "event", "count"),
            sum_by_key(std::slice::from_ref(&total), "events", "event", "count")
        );
        let elapsed: u64 = stat
            .iter()
            .map(|it| it["elapsed_ns"].as_u64().unwrap())
            .sum();
        assert_eq!(total["elapsed_ns"], elapsed, "{interval}");
        let mut exits = reports(&file, &["exits", "--json", "-I", interval]);
        let total = exits.pop().expect("a total");
        for field in ["count", "total_ns", "kernel_ns", "vmm_ns", "halted_ns"] {
            assert_eq!(
                sum_by_key(&exits, "rows", "reason", field),
                sum_by_key(std::slice::from_ref(&total), "rows", "reason", field),
                "{interval} {field}"
            );
        }
        // Each interval starts where the previous one ends.
        let mut end_ns = 0;
        for interval in &exits {
            assert_eq!(interval["start_ns"], end_ns);
            end_ns += interval["elapsed_ns"].as_u64().unwrap();
        }
        assert_eq!(total["elapsed_ns"], end_ns);
    }
}

#[test]
fn a_duration_limits_the_elapsed_time() {
    let file = RecordingFile::new(&contended_vms());
    let all = report(&file, &["stat", "--json", "-d", "250us"]);
    assert_eq!(all["elapsed_ns"], 250_000);
    let exits = report(&file, &["exits", "--json", "-d", "250us"]);
    assert_eq!(exits["elapsed_ns"], 250_000);
}

#[test]
fn reports_say_what_they_cover() {
    let file = RecordingFile::new(&contended_vms());
    for command in ["stat", "exits"] {
        let args = [command, "--json", "-I", "300us", "--vcpu", "0-3,8"];
        let mut reports = reports(&file, &args);
        let total = reports.pop().expect("a total");
        assert_eq!(total["period"], "total");
        assert!(reports.len() > 2, "{command}");
        for report in reports.iter().chain([&total]) {
            assert_eq!(report["view"], command);
            assert_eq!(report["schema_version"], 2);
            assert_eq!(report["tool_version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(report["input"], file.path().to_str().expect("UTF-8"));
            assert_eq!(
                report["selection"],
                serde_json::json!({"vcpu": ["0-3", "8"]})
            );
        }
        // In UTC too, each interval starts where the previous one ends, and they cover the total.
        let mut start = total["start"].clone();
        assert!(
            start
                .as_str()
                .is_some_and(|it| it.ends_with('Z') && it.contains('T')),
            "{start}"
        );
        for interval in &reports {
            assert_eq!(interval["period"], "interval");
            assert_eq!(interval["start"], start);
            start = interval["end"].clone();
        }
        assert_eq!(start, total["end"], "{command}");
    }
}
