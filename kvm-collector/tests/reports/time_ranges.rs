//! The rows of `convert` in time ranges of a real recording are those of the whole recording.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{real_recordings::real_recordings, recording_folder::stdout};

pub(crate) fn tests() -> Vec<Trial> {
    vec![Trial::test(
        "rows_of_time_ranges_add_up_to_the_recording",
        check,
    )]
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
                    .filter(|it| !it.starts_with("time_ns,time") && !it.starts_with("{\"defect\""));
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
