//! A folder with a recording, and the collector that reads it there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use libtest_mimic::Failed;

use crate::simulated_recording::{RecordingContents, write_recording};

/// Name of the recording in the folder.
pub(crate) const RECORDING: &str = "kvm.data";

/// Returns the folder, with a recording and an earlier report.
pub(crate) fn recording_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reports");
        fs::create_dir_all(&folder).expect("a folder");
        let contents = RecordingContents {
            seconds: 6,
            has_loss: false,
            has_exits: true,
            is_anonymous: false,
            host: 0,
            day: 0,
        };
        write_recording(&folder.join(RECORDING), contents);
        let lossy = RecordingContents {
            has_loss: true,
            ..contents
        };
        write_recording(&folder.join("lossy.data"), lossy);
        let earlier = ["exits", "-i", "lossy.data", "--json", "-o", "before.json"];
        let output = collector(&folder).args(earlier).output().expect("a run");
        assert!(output.status.success(), "{output:?}");
        folder
    })
}

/// Returns a command that runs the collector in the folder, in the time zone UTC.
pub(crate) fn collector(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
    command
        .current_dir(folder)
        .env("TZ", "UTC")
        .env_remove("COLUMNS");
    command
}

/// Runs the collector in the folder, with a width of the terminal.
///
/// # Errors
/// When it fails.
pub(crate) fn run(args: &[&str], columns: Option<usize>) -> Result<Output, Failed> {
    let mut command = collector(recording_folder());
    command.args(args);
    if let Some(columns) = columns {
        command.env("COLUMNS", columns.to_string());
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{args:?}: {output:?}").into());
    }
    Ok(output)
}

/// Returns what a command writes to stdout.
///
/// # Errors
/// When it fails, or does not write text.
pub(crate) fn stdout(args: &[&str], columns: Option<usize>) -> Result<String, Failed> {
    Ok(String::from_utf8(run(args, columns)?.stdout)?)
}
