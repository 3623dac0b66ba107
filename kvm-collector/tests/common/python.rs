//! The Python packages that read the converted files, from PyPI.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use libtest_mimic::{Completion, Failed, Trial};

/// Returns a Python interpreter that has the packages, or why there is none.
pub(crate) fn python() -> Result<&'static Path, &'static str> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let packages = ["perfetto", "duckdb", "duckdb-cli", "pandas", "protobuf"];
    let modules = "duckdb, pandas, perfetto, google.protobuf";
    let found = PYTHON.get_or_init(|| venv_with("python", &packages, modules));
    found.as_deref().map_err(String::as_str)
}

/// Installs packages in a virtual environment of this name, from which `modules` can be imported. Later runs use it again. Returns
/// its interpreter, or why there is none.
pub(crate) fn venv_with(name: &str, packages: &[&str], modules: &str) -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let python = folder.join("bin/python");
    let has_all = || {
        let mut command = Command::new(&python);
        command.args(["-c", &format!("import {modules}")]);
        command.output().is_ok_and(|it| it.status.success())
    };
    if has_all() {
        return Ok(python);
    }
    let mut venv = Command::new("python3");
    let venv = venv.args(["-m", "venv"]).arg(&folder).output();
    if !venv.is_ok_and(|it| it.status.success()) {
        return Err("no python3 with venv".to_owned());
    }
    let pip = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--timeout",
        "10",
        "--retries",
        "1",
    ];
    match Command::new(&python).args(pip).args(packages).output() {
        Ok(output) if output.status.success() && has_all() => Ok(python),
        Ok(output) => {
            let messages = String::from_utf8_lossy(&output.stderr).into_owned();
            let last_line = messages.lines().last().unwrap_or_default();
            Err(format!("pip cannot install the packages: {last_line}"))
        }
        Err(error) => Err(format!("no pip: {error}")),
    }
}

/// Creates a test that needs the packages. It is ignored, with the reason, without them.
pub(crate) fn python_test(name: &str, run: fn() -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(name, move || match python() {
        Ok(_) => run().map(|()| Completion::Completed),
        Err(reason) => Ok(Completion::ignored_with(reason)),
    })
}

/// Runs a script, whose path is relative to `tests`. Returns the JSON that it prints.
pub(crate) fn run_script(name: &str, argument: &str) -> Result<serde_json::Value, Failed> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name);
    let output = Command::new(python()?).arg(script).arg(argument).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
