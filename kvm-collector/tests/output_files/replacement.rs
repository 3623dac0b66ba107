//! New files, and what remains of the files that they replace.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use libtest_mimic::Failed;

use crate::{OLD, Setup, check, mode};

/// Commands that write a report.
pub(crate) const REPORTS: [&str; 11] = [
    "stat -i IN -o OUT",
    "stat -i IN -I 1ms -o OUT",
    "exits -i IN --json -o OUT",
    "exits -i IN -I 1ms --slow 1ns -o OUT",
    "trace -i IN -o OUT",
    "convert -i IN --to csv -o OUT",
    "convert -i IN --to json -o OUT",
    "convert -i IN --to text -o OUT",
    "convert -i IN --to html -o OUT",
    "convert -i IN --to parquet -o OUT",
    "convert -i IN --to perfetto -o OUT",
];

pub(crate) fn check_modes() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let commands = REPORTS.into_iter().chain([
        "stat -i IN --loss OUT",
        "exits -i IN --loss OUT",
        "convert -i IN --to csv -o /dev/null --loss OUT",
    ]);
    for arguments in commands {
        setup.restore()?;
        setup.succeed(arguments, &setup.output)?;
        check(fs::read(&setup.output)? != OLD.as_bytes(), arguments.into())?;
        let mode = mode(&setup.output)?;
        check(mode == 0o600, format!("{arguments}: {mode:o}"))?;
    }
    // The mode does not depend on the umask.
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_kvm-collector"));
    command.args(["stat", "-i"]).arg(&setup.input).arg("-o");
    let new = setup.folder.file("new");
    check(command.arg(&new).status()?.success(), "umask".into())?;
    check(mode(&new)? == 0o600, format!("{:o}", mode(&new)?))?;
    check(
        setup.names()? == ["kvm.data", "new", "out"],
        format!("{:?}", setup.names()?),
    )
}

pub(crate) fn check_failures() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let damaged = setup.folder.file("damaged");
    let bytes = fs::read(&setup.input)?;
    fs::write(&damaged, &bytes[..200])?;
    let damaged = damaged.display();
    for arguments in REPORTS {
        setup.fail(&format!("{arguments} --vm none"), "none")?;
        setup.fail(&arguments.replace("IN", "missing"), "missing")?;
        setup.fail(&arguments.replace("IN", &damaged.to_string()), "damaged")?;
        setup.fail(&format!("{arguments} --from 1h"), "1h")?;
    }
    setup.fail("exits -i IN --vm none --loss OUT", "none")?;
    setup.fail(
        "convert -i IN --to csv -o /dev/null --vm none --loss OUT",
        "none",
    )?;
    setup.fail(
        "convert -i IN --to csv -o /dev/full --loss OUT",
        "/dev/full",
    )?;
    // The report is not replaced either if the losses cannot be written.
    setup.fail("exits -i IN -o OUT --loss /dev/full", "/dev/full")?;
    setup.fail(
        "convert -i IN --to csv -o OUT --loss /dev/full",
        "/dev/full",
    )?;
    setup.fail("trace -i IN -o OUT --filter kvm_pio:nothing>1", "nothing")?;
    setup.fail("exits -i IN -o OUT --reason nothing", "nothing")?;
    // Commands that measure refuse what does not exist before they open their output.
    for command in ["record", "stat", "trace"] {
        setup.fail(&format!("{command} -o OUT -e no_such_event -d 1ms"), "")?;
    }
    setup.fail("exits -o OUT --kind no_such_kind -d 1ms", "")?;
    let folder = setup.folder.file("");
    let to_folder = format!("stat -i IN -o {}", folder.display());
    setup.fail(&to_folder, "Is a directory")?;
    setup.fail("stat -i IN -o out/", "directory")
}

pub(crate) fn check_inputs() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let bytes = fs::read(&setup.input)?;
    let (hard, soft) = (setup.folder.file("hard"), setup.folder.file("soft"));
    fs::hard_link(&setup.input, &hard)?;
    std::os::unix::fs::symlink(&setup.input, &soft)?;
    for path in [&setup.input, &hard, &soft] {
        for arguments in REPORTS {
            let name = path.display().to_string();
            let expected = format!("{name} is the recording itself");
            setup.fail(&arguments.replace("OUT", &name), &expected)?;
        }
        let loss = format!("exits -i IN --loss {}", path.display());
        setup.fail(&loss, "is the recording itself")?;
        let several = format!("stat -i IN out2 -o {}", path.display());
        fs::copy(&setup.input, setup.folder.file("out2"))?;
        setup.fail(&several, "is the recording itself")?;
    }
    // Also from stdin.
    let mut command = setup.command("exits -i - -o kvm.data", &setup.output);
    let result = command.stdin(fs::File::open(&setup.input)?).output()?;
    check(!result.status.success(), format!("{result:?}"))?;
    check(
        fs::read(&setup.input)? == bytes,
        "the recording was changed".into(),
    )
}

pub(crate) fn check_losses() -> Result<(), Failed> {
    let setup = Setup::new()?;
    for arguments in ["exits -i IN", "stat -i IN", "convert -i IN --to csv"] {
        setup.fail(
            &format!("{arguments} -o OUT --loss ./out"),
            "--loss are the same",
        )?;
        // Neither exists yet.
        setup.fail(
            &format!("{arguments} -o new --loss ./new"),
            "--loss are the same",
        )?;
    }
    Ok(())
}

/// Two outputs of different length are written to the same file at once, again and again.
pub(crate) fn check_two_runs() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let commands = ["convert -q -i IN --to json -o OUT", "trace -i IN -q -o OUT"];
    let mut expected = Vec::new();
    for arguments in commands {
        setup.succeed(arguments, &setup.output)?;
        expected.push(fs::read(&setup.output)?);
    }
    for _ in 0..10 {
        let mut running = Vec::new();
        for arguments in commands {
            running.push(setup.command(arguments, &setup.output).spawn()?);
        }
        for mut it in running {
            check(it.wait()?.success(), "a run failed".into())?;
        }
        let is_whole = expected.contains(&fs::read(&setup.output)?);
        check(is_whole, "the output is a mixture".into())?;
    }
    check(
        setup.names()? == ["kvm.data", "out"],
        format!("{:?}", setup.names()?),
    )
}

pub(crate) fn check_killed() -> Result<(), Failed> {
    use rustix::fs::{Mode, OFlags};
    let setup = Setup::new()?;
    let unnamed = OFlags::TMPFILE | OFlags::WRONLY;
    if rustix::fs::open(setup.folder.file(""), unnamed, Mode::RUSR).is_err() {
        // The file system supports no files without names.
        return Ok(());
    }
    let (pipe, fifo) = (setup.folder.file("pipe"), rustix::fs::FileType::Fifo);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, Mode::RWXU, 0)?;
    // The pipe is opened after the other output, and has no reader, so the collector waits.
    for arguments in [
        "exits -i IN -o OUT --loss pipe",
        "convert -i IN --to csv -o pipe --loss OUT",
    ] {
        let mut running = setup.command(arguments, &setup.output).spawn()?;
        std::thread::sleep(Duration::from_millis(300));
        check(running.try_wait()?.is_none(), "it has ended".into())?;
        running.kill()?;
        running.wait()?;
        let is_old = fs::read(&setup.output)? == OLD.as_bytes();
        check(is_old, format!("{arguments}: the output was changed"))?;
        let names = setup.names()?;
        check(names == ["kvm.data", "out", "pipe"], format!("{names:?}"))?;
    }
    Ok(())
}

pub(crate) fn check_partitions() -> Result<(), Failed> {
    let setup = Setup::new()?;
    let folder = setup.folder.file("tables");
    let arguments = "convert -i IN --partition host -o OUT";
    // No file or directory remains of a conversion that fails.
    let failed = setup.run_to(&format!("{arguments} --vm none"), &folder)?;
    check(!failed.status.success(), format!("{failed:?}"))?;
    check(!folder.exists(), "the folder remains".into())?;
    let impossible = folder.join("a".repeat(300));
    let failed = setup.run_to(arguments, &impossible)?;
    check(!failed.status.success(), format!("{failed:?}"))?;
    check(!folder.exists(), "the folder remains".into())?;
    setup.succeed(arguments, &folder)?;
    let host = folder.join("host=__HIVE_DEFAULT_PARTITION__");
    check(mode(&folder)? == 0o700, format!("{:o}", mode(&folder)?))?;
    check(mode(&host)? == 0o700, format!("{:o}", mode(&host)?))?;
    let file = only_file(&host)?;
    check(mode(&file)? == 0o600, format!("{:o}", mode(&file)?))?;
    // Existing directories keep their mode, and their files after a failure.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let bytes = fs::read(&file)?;
    setup.run_to(&format!("{arguments} --vm none"), &folder)?;
    check(
        fs::read(only_file(&host)?)? == bytes,
        "it was changed".into(),
    )?;
    setup.succeed(arguments, &folder)?;
    only_file(&host)?;
    check(mode(&folder)? == 0o755, format!("{:o}", mode(&folder)?))?;
    // A file that cannot be replaced is an error that names it.
    fs::remove_file(&file)?;
    fs::create_dir(&file)?;
    let failed = setup
        .command(arguments, &folder)
        .stderr(Stdio::piped())
        .output()?;
    let stderr = String::from_utf8_lossy(&failed.stderr);
    check(stderr.contains("Is a directory"), format!("{failed:?}"))?;
    fs::remove_dir(&file)?;
    check(fs::read_dir(&host)?.count() == 0, "a file remains".into())
}

fn only_file(folder: &Path) -> Result<std::path::PathBuf, Failed> {
    let entries: Result<Vec<_>, _> = fs::read_dir(folder)?.collect();
    match &entries?[..] {
        [file] => Ok(file.path()),
        others => Err(format!("{others:?}").into()),
    }
}
