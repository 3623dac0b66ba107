//! The rows of `convert` in time ranges of a real recording are those of the whole recording.

use std::path::Path;

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use crate::{
    real_recordings::real_recordings,
    recording_folder::{collector, recording_folder, stdout},
};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        Trial::test("rows_of_time_ranges_add_up_to_the_recording", check),
        Trial::ignorable_test("times_are_those_of_a_named_zone", named_zone),
    ]
}

/// TZ has the name of a zone, as users give it.
fn named_zone() -> Result<Completion, Failed> {
    if !Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        return Ok(Completion::ignored_with("no time zones are installed"));
    }
    for recording in real_recordings() {
        let run = |more: &[&str]| {
            let mut command = collector(recording_folder());
            command.args(["exits", "-i", &recording]).args(more);
            let output = command.env("TZ", "Asia/Tokyo").output()?;
            Ok::<_, Failed>(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let text = run(&[])?;
        // `2026-11-27 10:51:42.754 to 10:51:43.104 JST (349.6 ms)`
        let period = text.lines().find_map(|it| it.split_once(" JST ("));
        let start = period.and_then(|it| it.0.trim().split_once(" to "));
        let start = start.ok_or("no time zone")?.0.replace(' ', "T");
        // With another zone, this would be outside of the recording.
        if !run(&["--from", &start])?.contains(" JST (") {
            return Err(format!("{recording}: --from {start} is another time").into());
        }
    }
    Ok(Completion::Completed)
}

fn check() -> Result<(), Failed> {
    for recording in real_recordings() {
        let report: Value =
            serde_json::from_str(&stdout(&["exits", "-i", &recording, "--json"], None)?)?;
        let elapsed_ns = report["elapsed_ns"].as_u64().ok_or("no period")?;
        for format in ["csv", "json"] {
            let rows = |range: &[&str]| -> Result<Vec<String>, Failed> {
                let args = ["convert", "-i", &recording, "--to", format, "-o", "-"];
                let text = stdout(&[&args, range].concat(), None)?;
                let rows = text
                    .lines()
                    .filter(|it| !it.starts_with("time_ns,time") && !it.contains(",\"defect\":"));
                Ok(rows.map(str::to_owned).collect())
            };
            let mut whole = rows(&[])?;
            let [first, second] =
                [53, 71].map(|percent| format!("{}ns", elapsed_ns / 100 * percent));
            let ranges = [
                &["--until", &first][..],
                &["--from", &first, "--until", &second],
                &["--from", &second, "--until", "100s"],
            ];
            let mut sum = Vec::new();
            for range in ranges {
                sum.extend(rows(range)?);
            }
            whole.sort_unstable();
            sum.sort_unstable();
            if sum != whole || whole.is_empty() {
                let (sum, whole) = (sum.len(), whole.len());
                let message = format!("{recording}, {format}: {sum} rows instead of {whole}");
                return Err(message.into());
            }
        }
    }
    Ok(())
}
