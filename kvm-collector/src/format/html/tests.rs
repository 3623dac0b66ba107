//! Tests of a page with invented data.

use super::write_overview;
use crate::{
    model::Loss,
    view::{
        Bucket, ExitRow, ExitsReport, Overview, RecordedExits, RecordingFacts, StatEvent,
        StatReport, StatVm, TimelineReport, TimelineTrack, VcpuRow,
    },
};

const HOSTILE: &str = "</script><i id=x>&\"'\u{2028}";

fn stat() -> StatReport {
    let event = || StatEvent {
        event: format!("kvm:{HOSTILE}"),
        count: 1_234,
        rate_per_s: 617.0,
    };
    StatReport {
        view: "stat",
        start_ns: 0,
        elapsed_ns: 2_000_000_000,
        events: vec![event()],
        vms: vec![StatVm {
            host: None,
            vm: HOSTILE.into(),
            pid: 7,
            events: vec![event()],
        }],
        loss: Loss::default(),
    }
}

fn report() -> ExitsReport {
    let row = ExitRow {
        host: None,
        vm: Some(HOSTILE.into()),
        pid: Some(7),
        vcpu: None,
        tid: Some(9),
        reason: Some(HOSTILE.into()),
        reason_code: Some(1),
        isa: Some(2),
        key: None,
        name: None,
        code: None,
        class: None,
        count: 4_321,
        open: 0,
        untimed: 0,
        count_ratio: 1.0,
        time_ns: 5_000_000,
        time_ratio: 1.0,
        cost_ratio: 1.0,
        idle_ns: 0,
        kernel_ns: 5_000_000,
        vmm_ns: 0,
        halted_ns: 0,
        preempted_ns: 0,
        min_ns: 900,
        mean_ns: 1_157,
        max_ns: 2_000,
        p50_ns: 1_100,
        p99_ns: 1_900,
        percentiles: Vec::new(),
        histogram: vec![Bucket {
            from_ns: 896,
            to_ns: u64::MAX,
            count: 4_321,
        }],
        causes: Vec::new(),
        other_causes_at_most: None,
        advice: Vec::new(),
    };
    ExitsReport {
        view: "exits",
        kind: "vmexit".into(),
        by: vec!["vm", "vcpu", "reason"],
        start_ns: 0,
        elapsed_ns: 2_000_000_000,
        count: 4_321,
        time_ns: 5_000_000,
        idle_ns: 0,
        row_count: 1,
        rows: vec![row],
        vcpus: vec![VcpuRow {
            host: None,
            vm: HOSTILE.into(),
            pid: 7,
            vcpu: None,
            tid: Some(9),
            count: 4_321,
            guest_ns: 15_000_000,
            kernel_ns: 5_000_000,
            vmm_ns: 0,
            halted_ns: 0,
            preempted_ns: 0,
            open_ns: 0,
        }],
        preempt_watched: false,
        open: 0,
        loss: Loss::default(),
    }
}

fn sample_overview() -> Overview {
    Overview {
        facts: RecordingFacts {
            file: HOSTILE.into(),
            start_wall_ns: Some(1_760_000_000_000_000_000),
            details: vec![("host", HOSTILE.into())],
            ..RecordingFacts::default()
        },
        stat: stat(),
        exits: Ok(RecordedExits {
            rows: report(),
            reasons: report(),
        }),
        timeline: TimelineReport {
            elapsed_ns: 2_000_000_000,
            bin_ns: 1_000_000_000,
            bins: 2,
            events: vec![1_000, 234],
            lost: vec![0, 0],
            tracks: vec![TimelineTrack {
                vm: HOSTILE.into(),
                pid: 7,
                vcpu: None,
                tid: 9,
                exits: vec![4_000, 321],
                parts_ns: [
                    vec![750_000_000, 5],
                    vec![5, 0],
                    Vec::new(),
                    Vec::new(),
                    Vec::new(),
                    Vec::new(),
                ],
            }],
            merged_vcpus: 0,
        },
    }
}

fn page(overview: &Overview) -> String {
    let mut out = Vec::new();
    write_overview(overview, &mut out).expect("memory");
    String::from_utf8(out).expect("text")
}

#[test]
fn names_are_escaped_everywhere() {
    let mut overview = sample_overview();
    let html = page(&overview);
    assert!(!html.contains("<i id=x>"));
    assert_eq!(html.matches("</script>").count(), 2);
    // In the title, the heading, the facts, the tables and the bars.
    assert!(html.matches("&lt;i id=x&gt;").count() >= 9);
    overview.exits = Err(HOSTILE.into());
    overview.facts.defect = Some(HOSTILE.into());
    let html = page(&overview);
    assert!(!html.contains("<i id=x>"));
}

#[test]
fn numbers_are_readable_without_a_script() {
    let html = page(&sample_overview());
    for text in [
        "2025-10-09T08:53:20Z",
        "Complete: no event was lost",
        ">4,321</td>",
        "data-v=\"5000000\">5.000 ms</td>",
        "style=\"width:75.000%\"",
        "aria-label=\"guest 75.00%, kernel 25.00%\"",
        ">1,234</td>",
        "thread 9",
    ] {
        assert!(html.contains(text), "no {text}");
    }
}

#[test]
fn chart_data_is_json() {
    let html = page(&sample_overview());
    let data = html.split_once("id=\"data\">").expect("data").1;
    let data = data.split_once("</script>").expect("an end").0;
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["tracks"][0]["parts"][0][0], 750);
    assert_eq!(data["histograms"][0]["reason"], HOSTILE);
    // The unbounded last bucket ends at the longest duration.
    assert_eq!(data["histograms"][0]["buckets"][0][1], 2_001);
}

#[test]
fn losses_and_defects_are_reported() {
    let mut overview = sample_overview();
    overview.stat.loss.lost = 1_000;
    overview.stat.loss.damaged = 1;
    overview.facts.defect = Some("it ends too early".into());
    let html = page(&overview);
    assert!(html.contains("1,000 events did not fit into the buffer"));
    assert!(html.contains("The recording is incomplete: it ends too early"));
    assert!(!html.contains("damaged or cut off"));
    assert!(!html.contains("Complete:"));
}
