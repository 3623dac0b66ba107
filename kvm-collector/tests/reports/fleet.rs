//! The queries of `docs/fleet.md`, in each engine, on recordings of several hosts and days.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use crate::{
    python::{python, venv_with},
    real_recordings::real_recordings,
    recording_folder::{recording_folder, run, stdout},
    simulated_recording::{RecordingContents, write_recording},
};

/// The engines besides DuckDB, and their packages.
const ENGINES: [(&str, &str); 2] = [("chdb", "chdb"), ("spark", "pyspark")];

/// Simulated recordings of a fleet: the number of the host, and the day.
const SIMULATED: [(u8, u8); 3] = [(1, 0), (1, 1), (2, 1)];

type Answers = BTreeMap<String, Vec<Vec<String>>>;

pub(crate) fn tests() -> Vec<Trial> {
    let engines = ENGINES.iter().map(|(engine, package)| {
        let name = format!("fleet_answers_of_{engine}_equal_those_of_duckdb");
        Trial::ignorable_test(name, move || check_engine(engine, package))
    });
    let sums = Trial::ignorable_test("fleet_sums_equal_exits", || match python() {
        Ok(_) => check_sums().map(|()| Completion::Completed),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    });
    engines.chain([sums]).collect()
}

/// Creates the Parquet files of the fleet. Returns their folder, which is relative to the one with the recordings.
fn fleet() -> Result<&'static str, Failed> {
    static FLEET: OnceLock<()> = OnceLock::new();
    const FOLDER: &str = "fleet";
    FLEET.get_or_init(|| {
        let _ = fs::remove_dir_all(recording_folder().join(FOLDER));
        for (host, day) in SIMULATED {
            let file = simulated_file(host, day);
            let contents = RecordingContents {
                seconds: 3,
                has_loss: false,
                has_exits: true,
                is_anonymous: false,
                host,
                day,
            };
            write_recording(&recording_folder().join(&file), contents);
        }
        for file in recordings() {
            let args = [
                "convert",
                "-i",
                &file,
                "--to",
                "parquet",
                "-o",
                FOLDER,
                "--partition",
                "dt,host",
            ];
            run(&args, None)
                .map_err(|it| format!("{it:?}"))
                .expect("a conversion");
        }
    });
    Ok(FOLDER)
}

fn simulated_file(host: u8, day: u8) -> String {
    format!("host{host}-{day}.data")
}

/// File names of all recordings of the fleet.
fn recordings() -> Vec<String> {
    let simulated = SIMULATED.map(|(host, day)| simulated_file(host, day));
    simulated.into_iter().chain(real_recordings()).collect()
}

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleet.md")
}

/// Runs all queries in an engine.
fn answers(python: &Path, engine: &str) -> Result<Answers, Failed> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports/fleet.py");
    let output = Command::new(python)
        .arg(script)
        .arg(fleet()?)
        .arg(document())
        .arg(engine)
        .current_dir(recording_folder())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let text = String::from_utf8(output.stdout)?;
    let json = text.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(json)?)
}

fn check_engine(engine: &str, package: &str) -> Result<Completion, Failed> {
    let java = Command::new("java").arg("-version").output();
    if engine == "spark" && !java.is_ok_and(|it| it.status.success()) {
        return Ok(Completion::ignored_with("no Java"));
    }
    let duckdb = match python() {
        Ok(python) => answers(python, "duckdb")?,
        Err(reason) => return Ok(Completion::ignored_with(reason)),
    };
    if duckdb.len() != 10 {
        return Err(format!("{} questions instead of 10", duckdb.len()).into());
    }
    let interpreter = match venv_with(engine, &[package], package) {
        Ok(interpreter) => interpreter,
        Err(reason) => return Ok(Completion::ignored_with(reason)),
    };
    let found = answers(&interpreter, engine)?;
    for (question, expected) in &duckdb {
        // Without preemption and without changes in time, some answers are empty.
        if found.get(question) != Some(expected) {
            return Err(format!(
                "{question}\n{engine}: {:?}\nduckdb: {expected:?}",
                found.get(question)
            )
            .into());
        }
    }
    let with_rows = duckdb.values().filter(|rows| !rows.is_empty()).count();
    if with_rows < 9 {
        return Err(format!("only {with_rows} questions have an answer: {duckdb:?}").into());
    }
    Ok(Completion::Completed)
}

/// The exits per host in the table are those of `exits` on the same recordings.
fn check_sums() -> Result<(), Failed> {
    let answers = answers(python()?, "duckdb")?;
    let question = "On which hosts does the VMM take most of the time?";
    let mut found: Vec<_> = answers.get(question).ok_or("no such question")?.clone();
    found.sort();
    let text = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let files = recordings();
    let mut args = vec!["exits", "--json", "--by", "host", "-i"];
    args.extend(files.iter().map(String::as_str));
    let report: Value = serde_json::from_str(&stdout(&args, None)?)?;
    let rows = report["rows"].as_array().ok_or("no rows")?.iter();
    let mut expected: Vec<_> = rows
        .map(|row| {
            [&row["host"], &row["vmm_ns"], &row["kernel_ns"]]
                .map(text)
                .to_vec()
        })
        .collect();
    expected.sort();
    match found == expected {
        true => Ok(()),
        false => Err(format!("{found:?} instead of {expected:?}").into()),
    }
}
