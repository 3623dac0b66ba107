//! Runs cargo, and reads from its messages which programs it built.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{process, workspace};

/// A program that cargo has built.
#[derive(Debug)]
pub(crate) struct Executable {
    /// Name of the target in Cargo.toml.
    pub(crate) name: String,
    /// Whether it is a test program.
    pub(crate) is_test: bool,
    pub(crate) path: PathBuf,
}

/// Returns a cargo command that runs in the workspace root.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root());
    cargo
}

/// Runs a cargo build. Returns the programs that it built.
pub(crate) fn build(cargo: &mut Command) -> Result<Vec<Executable>> {
    cargo
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let mut child = cargo
        .spawn()
        .with_context(|| format!("cannot run {}", process::format_command(cargo)))?;
    let stdout = child.stdout.take().context("cargo's output is piped")?;
    let mut executables = Vec::new();
    for line in BufReader::new(stdout).lines() {
        executables.extend(parse_message(&line?));
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", process::format_command(cargo));
    }
    Ok(executables)
}

/// Parses a message of cargo. Returns `None` if it is not about a program.
fn parse_message(line: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(line).ok()?;
    let target = &message["target"];
    Some(Executable {
        path: message["executable"].as_str()?.into(),
        name: target["name"].as_str()?.to_owned(),
        is_test: target["kind"][0] == "test",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_about_programs_are_used() {
        let program = r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"live"},"executable":"/t/live-1"}"#;
        let executable = parse_message(program).unwrap();
        assert_eq!(executable.name, "live");
        assert!(executable.is_test);
        assert_eq!(executable.path, PathBuf::from("/t/live-1"));

        let library = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"aya"},"executable":null}"#;
        assert!(parse_message(library).is_none());
        assert!(parse_message("not json").is_none());
    }
}
