//! `exits` and `top` divide the time of a recording in the same way as `convert`, without an option.

use std::array;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    real_recordings::real_recordings,
    recording_folder::{RECORDING, run, stdout},
};

const PARTS: [&str; 4] = ["kernel_ns", "vmm_ns", "halted_ns", "preempted_ns"];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        Trial::test(
            "parts_of_exits_equal_those_of_the_conversion",
            parts_equal_those_of_the_conversion,
        ),
        Trial::test(
            "a_baseline_with_preempted_time_needs_a_report_with_it",
            baseline_needs_preempted_time,
        ),
        Trial::test(
            "top_has_preempted_time_if_the_recording_has_it",
            top_has_preempted_time,
        ),
    ]
}

/// The recordings have context switches.
fn parts_equal_those_of_the_conversion() -> Result<(), Failed> {
    let mut all_ns = [0; PARTS.len()];
    for recording in real_recordings() {
        let expected = converted_parts_ns(&recording)?;
        for options in [&[][..], &["--preempt"]] {
            let args = [&["exits", "--json", "-i", &recording], options].concat();
            let report: Value = serde_json::from_str(&stdout(&args, None)?)?;
            if parts_ns(&report)? != expected || report["preempt_watched"] != true {
                let found = parts_ns(&report)?;
                return Err(format!("{args:?}: {found:?}, converted {expected:?}").into());
            }
        }
        all_ns = array::from_fn(|at| all_ns[at] + expected[at]);
    }
    let recordings = real_recordings();
    let mut args = vec!["exits", "--json", "-i"];
    args.extend(recordings.iter().map(String::as_str));
    let sum: Value = serde_json::from_str(&stdout(&args, None)?)?;
    if parts_ns(&sum)? != all_ns || sum["preempt_watched"] != true {
        return Err(format!("sum {:?}, converted {all_ns:?}", parts_ns(&sum)?).into());
    }
    match all_ns[3] > 0 {
        true => Ok(()),
        false => Err("nothing was preempted".into()),
    }
}

/// Returns the parts of the time of all exits in a CSV table.
fn converted_parts_ns(recording: &str) -> Result<[u64; PARTS.len()], Failed> {
    let args = ["convert", "-i", recording, "--to", "csv", "-o", "-"];
    let text = stdout(&args, None)?;
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let headers = table.headers()?.clone();
    let mut sums_ns = [0; PARTS.len()];
    for exit in table.records() {
        let exit = exit?;
        for (sum_ns, part) in sums_ns.iter_mut().zip(PARTS) {
            let column = headers.iter().position(|it| it == part);
            let cell = exit.get(column.ok_or("no such column")?);
            // The cell of an exit without a time is empty.
            if let Some(cell) = cell.filter(|it| !it.is_empty()) {
                *sum_ns += cell.parse::<u64>()?;
            }
        }
    }
    Ok(sums_ns)
}

/// Returns the parts of the time of all rows.
fn parts_ns(report: &Value) -> Result<[u64; PARTS.len()], Failed> {
    let rows = report["rows"].as_array().ok_or("no rows")?;
    let sum = |part: &str| rows.iter().filter_map(|row| row[part].as_u64()).sum();
    Ok(PARTS.map(sum))
}

fn baseline_needs_preempted_time() -> Result<(), Failed> {
    let [recording, ..] = real_recordings();
    const BASELINE: &str = "with-preempted-time.json";
    run(&["exits", "-i", &recording, "--json", "-o", BASELINE], None)?;
    run(&["exits", "-i", &recording, "--baseline", BASELINE], None)?;
    match run(&["exits", "-i", RECORDING, "--baseline", BASELINE], None) {
        Err(error) if format!("{error:?}").contains("with preempted time") => Ok(()),
        other => Err(format!("not refused: {other:?}").into()),
    }
}

fn top_has_preempted_time() -> Result<(), Failed> {
    let [recording, ..] = real_recordings();
    let text = stdout(&["top", "--once", "-i", &recording], Some(200))?;
    if !text.contains("prmt%") {
        return Err(text.into());
    }
    let sorted = ["top", "--once", "--sort", "preempted"];
    run(&[&sorted[..], &["-i", &recording]].concat(), None)?;
    match run(&[&sorted[..], &["-i", RECORDING]].concat(), None) {
        Err(error) if format!("{error:?}").contains("sched:sched_switch") => Ok(()),
        other => Err(format!("not refused: {other:?}").into()),
    }
}
