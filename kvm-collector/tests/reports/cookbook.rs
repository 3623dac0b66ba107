//! The commands of `docs/cookbook.md` run, and give the same answers.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
    sync::Once,
};

use libtest_mimic::{Completion, Failed, Trial};

use crate::{
    python,
    real_recordings::real_recordings,
    recording_folder::{recording_folder, run},
};

/// A question, and the lines that answer it.
struct Question {
    text: String,
    commands: Vec<String>,
}

pub(crate) fn tests() -> Vec<Trial> {
    questions()
        .into_iter()
        .map(|question| {
            Trial::ignorable_test(format!("cookbook: {}", question.text), move || {
                check(&question)
            })
        })
        .chain([Trial::test(
            "the_cookbook_has_ten_questions",
            || match questions()
                .iter()
                .filter(|it| it.commands.len() == 3)
                .count()
            {
                10 => Ok(()),
                count => Err(format!("{count} questions with three answers").into()),
            },
        )])
        .chain([Trial::ignorable_test(
            "cookbook_answers_of_jq_and_duckdb_agree",
            check_agreement,
        )])
        .collect()
}

fn questions() -> Vec<Question> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cookbook.md");
    let text = fs::read_to_string(file).expect("the cookbook");
    let sections = text.split("\n## ").skip(1);
    sections
        .map(|section| {
            let (title, body) = section.split_once('\n').expect("a title");
            let commands = body.lines().filter_map(|line| line.strip_prefix("    "));
            Question {
                text: title.to_owned(),
                commands: commands.map(str::to_owned).collect(),
            }
        })
        .collect()
}

/// Creates a folder with the programs that the commands use. Returns why one is missing.
fn programs() -> Result<std::path::PathBuf, String> {
    let folder = recording_folder().join("bin");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    // The packages are installed beside the interpreter.
    let duckdb = python::python()?.with_file_name("duckdb");
    let collector = Path::new(env!("CARGO_BIN_EXE_kvm-collector"));
    for (name, target) in [("duckdb", &*duckdb), ("kvm-collector", collector)] {
        let link = folder.join(name);
        // Another test may have created the link already.
        let _ = symlink(target, &link);
        let is_program = fs::metadata(&link).is_ok_and(|it| it.permissions().mode() & 0o111 != 0);
        if !is_program {
            return Err(format!("cannot create {}", link.display()));
        }
    }
    let jq = Command::new("jq").arg("--version").output();
    if !jq.is_ok_and(|it| it.status.success()) {
        return Err("no jq".to_owned());
    }
    Ok(folder)
}

fn check(question: &Question) -> Result<Completion, Failed> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(reason) => return Ok(Completion::ignored_with(reason)),
    };
    static EXITS: Once = Once::new();
    EXITS.call_once(|| {
        let command = "convert -i kvm.data --to parquet -o exits.parquet";
        let args: Vec<_> = command.split(' ').collect();
        run(&args, None)
            .map_err(|it| format!("{it:?}"))
            .expect("a conversion");
    });
    for command in &question.commands {
        answer(command, recording_folder(), &programs)?;
    }
    Ok(Completion::Completed)
}

/// Runs a command in a folder with recordings. Returns its output, which must not be empty.
fn answer(command: &str, folder: &Path, programs: &Path) -> Result<String, Failed> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", command])
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("TZ", "UTC")
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.trim().is_empty() || text.trim() == "null" {
        return Err(format!("`{command}`: {output:?}").into());
    }
    Ok(text.into_owned())
}

/// The answers of jq and DuckDB about a real recording are the same, except for a ratio of the last numbers.
fn check_agreement() -> Result<Completion, Failed> {
    let programs = match programs() {
        Ok(programs) => programs,
        Err(reason) => return Ok(Completion::ignored_with(reason)),
    };
    let folder = recording_folder().join("real");
    fs::create_dir_all(&folder)?;
    let [.., recording] = real_recordings();
    fs::copy(recording_folder().join(recording), folder.join("kvm.data"))?;
    let convert = "convert -i real/kvm.data --to parquet -o real/exits.parquet";
    run(&convert.split(' ').collect::<Vec<_>>(), None)?;
    for (title, max_ratio) in [
        ("Which VM costs the host the most time?", 0.0),
        ("Which exit reason does it have most often?", 0.0),
        ("Which device port or MSR is behind that reason?", 0.0),
        ("What is the slowest exit, and when was it?", 0.0),
        ("What is the 99th percentile of each exit reason?", 0.05),
        (
            "Which exits go to the VMM, and how long do they take there?",
            0.0,
        ),
    ] {
        let questions = questions();
        let question = questions.iter().find(|it| it.text == title);
        let commands = &question
            .ok_or_else(|| format!("no question {title}"))?
            .commands;
        // The recording has context switches, so the table has times without preemption.
        let jq = commands[1].replace(" --json", " --preempt --json");
        let jq = rows(&answer(&jq, &folder, &programs)?);
        let duckdb = commands[2].replace("duckdb -c", "duckdb -csv -noheader -c");
        let duckdb = rows(&answer(&duckdb, &folder, &programs)?);
        let agree = jq.len() == duckdb.len()
            && jq.iter().all(|(key, number)| {
                let other = duckdb.get(key).copied().unwrap_or(f64::NAN);
                (number - other).abs() <= max_ratio * number
            });
        if !agree {
            return Err(format!("{title}\njq: {jq:?}\nDuckDB: {duckdb:?}").into());
        }
    }
    Ok(Completion::Completed)
}

/// Returns the last number of each row by its other cells. Times are rounded down to milliseconds.
fn rows(answer: &str) -> BTreeMap<String, f64> {
    let rows = answer.lines().map(|line| {
        let line = line
            .replace("+00,", " ")
            .replace([',', 'T'], " ")
            .replace(['"', 'Z'], "");
        let (key, number) = line.rsplit_once(' ').unwrap_or(("", &line));
        let cells = key.split(' ').map(|cell| match cell.split_once('.') {
            Some((whole, part)) if whole.contains(':') => {
                format!("{whole}.{}", part.get(..3).unwrap_or(part))
            }
            _ => cell.to_owned(),
        });
        let key: Vec<_> = cells.collect();
        (key.join(" "), number.parse().unwrap_or(f64::NAN))
    });
    rows.collect()
}
