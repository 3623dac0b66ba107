//! Root can read recordings and write outputs where it needs a capability for that.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Command, Stdio},
};

use libtest_mimic::Failed;

use crate::{NOBODY, Setup, collector, ensure, succeed};

/// A third user.
const OTHER: u32 = 65533;

fn own(path: &Path, user: u32, mode: u32) -> Result<(), Failed> {
    chown(path, Some(user), Some(user))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Runs `stat` of a recording with an output, and returns the capabilities that remain.
fn run(input: &Path, output: &Path) -> Result<String, Failed> {
    let mut command = Command::new(collector());
    command.arg("-v").arg("stat").arg("-i").arg(input);
    let result = succeed(command.arg("-o").arg(output))?;
    ensure(
        fs::read_to_string(output)?.contains("kvm_exit"),
        || "no report",
    )?;
    let stderr = String::from_utf8_lossy(&result.stderr).into_owned();
    let line = stderr.lines().find_map(|it| it.split_once("sandbox: "));
    let Some((_, text)) = line else {
        return Err(stderr.into());
    };
    Ok(text.split(';').next().unwrap_or_default().to_owned())
}

pub(crate) fn of_others() -> Result<(), Failed> {
    let setup = Setup::new();
    let folder = setup.folder.file("home");
    fs::create_dir(&folder)?;
    let (input, output) = (folder.join("kvm.data"), folder.join("report"));
    fs::rename(&setup.input, &input)?;
    // Readable by all, so that only the output needs a capability.
    own(&input, NOBODY, 0o644)?;
    own(&folder, NOBODY, 0o755)?;
    let kept = run(&input, &output)?;
    ensure(kept == "only CAP_DAC_OVERRIDE", || kept)?;
    own(&input, NOBODY, 0o600)?;
    own(&folder, NOBODY, 0o700)?;
    let kept = run(&input, &setup.folder.file("report"))?;
    ensure(kept == "only CAP_DAC_READ_SEARCH", || kept)?;
    own(&folder, NOBODY, 0o755)?;
    own(&input, NOBODY, 0o644)?;
    let kept = run(&input, &setup.folder.file("report"))?;
    ensure(kept == "no capabilities", || kept)
}

/// In a sticky directory, only the owners of a file and of the directory may replace the file.
pub(crate) fn in_sticky_directory() -> Result<(), Failed> {
    let setup = Setup::new();
    let folder = setup.folder.file("sticky");
    fs::create_dir(&folder)?;
    let output = folder.join("report");
    fs::write(&output, "older")?;
    own(&output, OTHER, 0o644)?;
    own(&folder, NOBODY, 0o1755)?;
    let kept = run(&setup.input, &output)?;
    ensure(kept == "only CAP_DAC_OVERRIDE, CAP_FOWNER", || kept)
}

pub(crate) fn pipes_and_devices() -> Result<(), Failed> {
    let setup = Setup::new();
    let exits = |input: &str, output: &str| {
        let mut command = Command::new(collector());
        command.args(["exits", "-i", input, "-o", output]);
        command
    };
    let file = setup.input.to_string_lossy();
    for output in ["/dev/null", "-"] {
        succeed(&mut exits(&file, output))?;
    }
    let result = succeed(exits(&file, "/dev/stdout").stdout(Stdio::piped()))?;
    ensure(
        String::from_utf8_lossy(&result.stdout).contains("exit reason"),
        || "no report",
    )?;
    // A finished recording in a pipe is stored in a temporary file.
    for input in ["-", "/dev/stdin"] {
        let mut cat = Command::new("cat")
            .arg(&setup.input)
            .stdout(Stdio::piped())
            .spawn()?;
        let pipe = cat.stdout.take().ok_or("stdout is piped")?;
        let result = succeed(exits(input, "-").stdin(pipe))?;
        cat.wait()?;
        ensure(
            String::from_utf8_lossy(&result.stdout).contains("exit reason"),
            || "no report",
        )?;
    }
    Ok(())
}
