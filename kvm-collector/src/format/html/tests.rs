//! Tests of a page with invented data.

use super::write_overview;
use crate::{
    model::Loss,
    view::{
        Advice, Bucket, CauseRow, ExitRow, ExitsReport, Overview, RecordedExits, RecordingFacts,
        SlowExitRow, StatEvent, StatReport, StatVm, TimelineReport, TimelineTrack, VcpuRow,
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
        vms: Some(vec![StatVm {
            host: None,
            elapsed_ns: None,
            vm: HOSTILE.into(),
            vm_uuid: None,
            pid: 7,
            events: vec![event()],
        }]),
        loss: Loss::default(),
    }
}

fn report() -> ExitsReport {
    let row = ExitRow {
        host: None,
        elapsed_ns: None,
        vm: Some(HOSTILE.into()),
        vm_uuid: Some(None),
        pid: Some(7),
        vcpu: None,
        tid: Some(9),
        reason: Some(HOSTILE.into()),
        reason_code: Some(1),
        isa: Some("svm"),
        key: None,
        key_name: None,
        code: None,
        class: None,
        count: 4_321,
        open: 0,
        untimed: 0,
        count_ratio: 1.0,
        total_ns: 5_000_000,
        time_ratio: 1.0,
        cost_ratio: 1.0,
        idle_ns: 0,
        kernel_ns: 5_000_000,
        vmm_ns: 0,
        halted_ns: 0,
        preempted_ns: Some(0),
        min_ns: 900,
        mean_ns: 1_157,
        max_ns: 2_000,
        p50_ns: 1_100,
        p99_ns: 1_900,
        percentiles: Vec::new(),
        histogram: Some(vec![Bucket {
            from_ns: 896,
            to_ns: u64::MAX,
            count: 4_321,
        }]),
        causes: vec![CauseRow {
            cause: HOSTILE.into(),
            cause_name: Some(HOSTILE.into()),
            cause_code: 0,
            at_least: 4_000,
            at_most: 4_100,
            total_ns: 4_500_000,
        }],
        other_causes_at_most: Some(300),
        advice: vec![Advice {
            topic: "serial",
            text: "Log less",
        }],
        evidence: None,
        rates: None,
    };
    ExitsReport {
        view: "exits",
        kind: "vmexit".into(),
        by: vec!["vm", "vcpu", "reason"],
        start_ns: 0,
        elapsed_ns: 2_000_000_000,
        count: 4_321,
        total_ns: 5_000_000,
        idle_ns: 0,
        halted_ns: 0,
        max_ns: 2_000,
        untimed: 0,
        row_count: 1,
        rows: vec![row],
        vcpus: vec![VcpuRow {
            host: None,
            elapsed_ns: None,
            vm: HOSTILE.into(),
            vm_uuid: None,
            pid: 7,
            vcpu: None,
            tid: Some(9),
            count: 4_321,
            guest_ns: 15_000_000,
            kernel_ns: 5_000_000,
            vmm_ns: 0,
            halted_ns: 0,
            preempted_ns: Some(0),
            open_ns: 0,
        }],
        vms_without_exits: None,
        preempt_watched: false,
        open: 0,
        loss: Loss::default(),
    }
}

fn slow_exit() -> SlowExitRow {
    SlowExitRow {
        view: "slow_exit",
        time_ns: 5_497_000_000,
        vm: HOSTILE.into(),
        vm_uuid: None,
        pid: 7,
        tid: 9,
        vcpu: None,
        reason: Some(HOSTILE.into()),
        key: None,
        key_name: None,
        cause: Some(HOSTILE.into()),
        cause_name: Some(HOSTILE.into()),
        guest_rip: crate::view::Hex(0xffff_8000),
        duration_ns: 3_000_000,
        kernel_ns: 1_000_000,
        vmm_ns: 0,
        halted_ns: 2_000_000,
        preempted_ns: Some(0),
        idle_ns: 2_000_000,
    }
}

fn sample_overview() -> Overview {
    Overview {
        facts: RecordingFacts {
            file: HOSTILE.into(),
            wall_offset_ns: Some(1_759_999_995_000_000_000),
            details: vec![("host", HOSTILE.into())],
            ..RecordingFacts::default()
        },
        stat: stat(),
        exits: Ok(RecordedExits {
            rows: report(),
            vms: report(),
            reasons: report(),
            slowest: vec![slow_exit()],
        }),
        timeline: TimelineReport {
            start_ns: Some(5_000_000_000),
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
    assert!(html.matches("&lt;i id=x&gt;").count() >= 17);
    overview.exits = Err(HOSTILE.into());
    overview.facts.defect = Some(HOSTILE.into());
    let html = page(&overview);
    assert!(!html.contains("<i id=x>"));
}

#[test]
fn numbers_are_readable_without_a_script() {
    let html = page(&sample_overview());
    for text in [
        ">2025-10-09 08:53:20.000</time> to <time",
        ">08:53:22.000</time> UTC",
        ">08:53:20.497000</time>",
        ">3.000 ms</td>",
        ">0xffff8000</td>",
        "<dt>serial</dt>",
        "Log less",
        "<td class=\"n\">4,000-4,100</td>",
        "others, each</td><td class=\"n\">&lt;=300</td>",
        "Each step of the chart is 1 s long.",
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
fn columns_and_legends_have_only_what_was_recorded() {
    let mut overview = sample_overview();
    let column = "data-key=\"preempted\"";
    let entry = "<i class=\"p-preempted\"></i>";
    let html = page(&overview);
    assert!(!html.contains(column) && !html.contains(entry));
    let exits = overview.exits.as_mut().expect("exits");
    exits.rows.preempt_watched = true;
    exits.rows.vcpus[0].preempted_ns = Some(1);
    overview.timeline.tracks[0].parts_ns[4] = vec![0, 1];
    let html = page(&overview);
    assert_eq!(html.matches(column).count(), 2);
    assert_eq!(html.matches(entry).count(), 2);
    assert!(!html.contains("<dt>kernel</dt>"));
}

#[test]
fn exits_without_times_have_none() {
    let mut overview = sample_overview();
    let exits = overview.exits.as_mut().expect("exits");
    exits.vms.rows.clear();
    exits.slowest.clear();
    let row = &mut exits.rows.rows[0];
    (row.count, row.untimed, row.total_ns) = (1, 1, 0);
    let html = page(&overview);
    assert!(html.contains("There is no advice"));
    assert!(!html.contains("Slowest exits"));
    let cells = html.split_once("id=\"exits\"").expect("a table").1;
    let cells = cells.split_once("</tbody>").expect("a row").0;
    assert_eq!(cells.matches("title=\"not recorded\"").count(), 11);
}

#[test]
fn a_recording_without_a_date_has_times_from_its_start() {
    let mut overview = sample_overview();
    overview.facts.wall_offset_ns = None;
    let html = page(&overview);
    assert!(!html.contains("<time"));
    assert!(html.contains("data-v=\"497000000\">497.0 ms</td>"));
    assert!(html.contains("\"start\":null"));
}

#[test]
fn chart_data_is_json() {
    let html = page(&sample_overview());
    let data = html.split_once("id=\"data\">").expect("data").1;
    let data = data.split_once("</script>").expect("an end").0;
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["tracks"][0]["parts"][0][0], 750);
    assert_eq!(data["start"][0], 1_760_000_000);
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
