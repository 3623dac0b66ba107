//! Outputs on a file system without space: a small tmpfs in a mount namespace of its own.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use libtest_mimic::Failed;

use crate::{Setup, check, replacement::REPORTS};

type Test = fn() -> Result<(), Failed>;

pub(crate) const TESTS: [(&str, Test); 2] = [
    ("a_full_disk_changes_nothing", check_full),
    ("a_mounted_file_is_overwritten", check_mounted),
];

/// Mounts a tmpfs at $1, and runs the rest of the arguments.
const MOUNT: &str = "mount -t tmpfs -o size=16k,mode=0755 none \"$1\" || exit 99; shift";

fn unshare(script: &str, mount_point: &Path, rest: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", script, "sh"]);
    command.arg(mount_point).args(rest).output()
}

/// Returns why a file system cannot be mounted here.
pub(crate) fn why_impossible() -> Option<String> {
    let result = unshare(MOUNT, Path::new("/mnt"), &[]);
    match result {
        Err(error) => Some(format!("unshare: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A disk without a free page.
fn check_full() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let disk = setup.folder.file("disk");
    fs::create_dir(&disk)?;
    let script = format!(
        "{MOUNT}; cd \"$1\" || exit 98; shift
         head -c 4096 /dev/zero >out; head -c 12288 /dev/zero >other
         \"$@\"; code=$?
         ls -A; stat -c %s out; cmp -n 4096 out /dev/zero || code=97; exit $code"
    );
    let (disk_text, input) = (
        disk.display().to_string(),
        setup.input.display().to_string(),
    );
    for arguments in REPORTS {
        let arguments = arguments.replace("IN", &input).replace("OUT", "out");
        let mut rest = vec![&*disk_text, env!("CARGO_BIN_EXE_kvm-collector")];
        rest.extend(arguments.split(' '));
        let result = unshare(&script, &disk, &rest)?;
        let (stdout, stderr) = (
            String::from_utf8_lossy(&result.stdout),
            String::from_utf8_lossy(&result.stderr),
        );
        let is_named = stderr.contains("cannot write to out: No space left on device");
        let code = result.status.code();
        check(
            code == Some(1) && is_named,
            format!("{arguments}: {result:?}"),
        )?;
        // The older output, and no other file.
        check(
            stdout == "other\nout\n4096\n",
            format!("{arguments}: {stdout}"),
        )?;
    }
    Ok(())
}

/// A single file that is mounted cannot be replaced, so it is overwritten.
fn check_mounted() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let other = setup.folder.file("other");
    fs::write(&other, "x".repeat(100_000))?;
    let script = "mount --bind \"$1\" \"$2\" || exit 99; shift 2; \"$@\"";
    let (output, input) = (
        setup.output.display().to_string(),
        setup.input.display().to_string(),
    );
    let collector = env!("CARGO_BIN_EXE_kvm-collector");
    let rest = [&output, collector, "exits", "-i", &input, "-o", &output];
    let result = unshare(script, &other, &rest)?;
    check(result.status.success(), format!("{result:?}"))?;
    let expected = setup.succeed("exits -i IN", &setup.output)?.stdout;
    check(fs::read(&other)? == expected, "another report".into())
}
