//! The summary of `record`.

use std::path::Path;

use crate::{
    format::units::{count, mebibytes, plural},
    recording::RecordingStats,
};

/// Returns the summary of a recording to `output`.
pub(super) fn text(
    output: &Path,
    is_flight_recorder: bool,
    recorded: RecordingStats,
    lost: u64,
) -> String {
    let events = plural(recorded.events, "event");
    let lost = count(lost);
    let file = match output == Path::new("-") {
        true => "stdout".into(),
        false => output.display().to_string(),
    };
    if recorded.files == 0 {
        return match is_flight_recorder {
            true => "nothing was written: --trigger did not fire, and there was no SIGUSR1".into(),
            false => format!("{events} recorded to {file}, {lost} lost"),
        };
    }
    let kept_bytes = mebibytes(recorded.kept_bytes);
    if recorded.files == 1 {
        return format!("{events} recorded to {file} ({kept_bytes}), {lost} lost");
    }
    let files = match recorded.files - recorded.kept_files {
        0 => format!(
            "{}, the last one is {file} ({kept_bytes} in total)",
            plural(recorded.files, "file")
        ),
        _ => format!(
            "{}, of which {} {kept_bytes} in total; the last one is {file}",
            plural(recorded.files, "file"),
            match recorded.kept_files {
                1 => "1 remains with".to_owned(),
                number => format!("{} remain with", count(number)),
            },
        ),
    };
    format!("{events} recorded to {files}, {lost} lost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(files: u64, kept_files: u64, is_flight_recorder: bool) -> String {
        let recorded = RecordingStats {
            events: 633_734,
            bytes: 14 << 20,
            files,
            kept_files,
            kept_bytes: kept_files << 20,
            ..RecordingStats::default()
        };
        text(Path::new("rot.data"), is_flight_recorder, recorded, 1_000)
    }

    #[test]
    fn the_summary_counts_the_files_that_remain() {
        assert_eq!(
            summary(1, 1, false),
            "633,734 events recorded to rot.data (1.0 MiB), 1,000 lost"
        );
        assert_eq!(
            summary(14, 2, false),
            "633,734 events recorded to 14 files, of which 2 remain with 2.0 MiB in total; the last one is rot.data, 1,000 lost"
        );
        assert_eq!(
            summary(3, 3, true),
            "633,734 events recorded to 3 files, the last one is rot.data (3.0 MiB in total), 1,000 lost"
        );
        assert!(summary(0, 0, true).starts_with("nothing was written"));
        let stdout = text(Path::new("-"), false, RecordingStats::default(), 0);
        assert_eq!(stdout, "0 events recorded to stdout, 0 lost");
    }
}
