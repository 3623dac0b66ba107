//! The commands of `docs/cookbook.md` run, and give an answer.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Command,
    sync::Once,
};

use libtest_mimic::{Completion, Failed, Trial};

use crate::{
    python,
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
    let folder = recording_folder();
    let path = std::env::var("PATH").unwrap_or_default();
    for command in &question.commands {
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
    }
    Ok(Completion::Completed)
}
