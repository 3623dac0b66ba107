//! The collector in a user and pid namespace of its own, as in a rootless container.

use std::process::Command;

use libtest_mimic::Failed;

use crate::{Reason, Setup, collector, ensure, succeed};

fn in_namespaces() -> Command {
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ]);
    command
}

pub(crate) fn why_impossible() -> Reason {
    match in_namespaces().arg("true").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

pub(crate) fn reading() -> Result<(), Failed> {
    let setup = Setup::new();
    let (input, output) = (setup.input.display(), setup.folder.file("report"));
    let script = format!(
        "{} -v exits -i {input} -o {}",
        collector(),
        output.display()
    );
    let result = succeed(in_namespaces().args(["sh", "-c", &script]))?;
    let stderr = String::from_utf8_lossy(&result.stderr);
    ensure(stderr.contains("sandbox: no capabilities"), || {
        stderr.into_owned()
    })
}

/// The root of a user namespace cannot trace. The message says so, and names no process of the host.
pub(crate) fn measuring() -> Result<(), Failed> {
    let output = in_namespaces()
        .arg(collector())
        .args(["stat", "-d", "100ms"])
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure(
        output.status.code() == Some(1) && stderr.contains("user namespace"),
        || stderr.into_owned(),
    )
}
