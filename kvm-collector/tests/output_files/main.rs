//! The files that the collector writes: who can read them, which links it follows, and what remains when a command fails. And
//! the files that it opens when it reads a recording.

mod full_disk;
mod links;
mod no_other_file;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod replacement;
#[path = "../messages/sample.rs"]
#[expect(dead_code, reason = "the other samples are for messages")]
mod sample;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output, Stdio},
};

use libtest_mimic::{Arguments, Failed, Trial};

use temporary_folder::TemporaryFolder;

fn main() -> ExitCode {
    let mut tests = vec![
        Trial::test("files_are_private", replacement::check_modes),
        Trial::test(
            "a_failing_command_changes_nothing",
            replacement::check_failures,
        ),
        Trial::test("an_input_is_not_overwritten", replacement::check_inputs),
        Trial::test("two_outputs_are_two_files", replacement::check_losses),
        Trial::test("the_last_of_two_runs_wins", replacement::check_two_runs),
        Trial::test(
            "nothing_remains_of_a_killed_command",
            replacement::check_killed,
        ),
        Trial::test(
            "partitions_are_private_and_complete",
            replacement::check_partitions,
        ),
        Trial::test("links_are_followed_in_own_directories", links::check_own),
        Trial::test("links_are_refused_where_others_write", links::check_shared),
        Trial::test("written_directories_are_known", links::check_directories),
        Trial::test("devices_and_pipes_are_written", links::check_special),
        Trial::test(
            "a_recording_names_no_file_to_open",
            no_other_file::check_paths,
        ),
        Trial::test(
            "links_in_a_folder_lead_to_no_file_of_the_kernel",
            no_other_file::check_links,
        ),
    ];
    // Only root can create files of another user.
    let is_root = rustix::process::geteuid().is_root();
    tests.push(
        Trial::test("files_of_others_are_refused", links::check_others).with_ignored_flag(!is_root),
    );
    let reason = full_disk::why_impossible();
    if let Some(reason) = &reason {
        eprintln!("full_disk tests are skipped: {reason}");
    }
    for (name, test) in full_disk::TESTS {
        tests.push(Trial::test(name, test).with_ignored_flag(reason.is_some()));
    }
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A folder with a recording and an older output.
struct Setup {
    folder: TemporaryFolder,
    input: PathBuf,
    output: PathBuf,
}

/// The older output, which has another mode than new files.
const OLD: &str = "the output of another day\n";

impl Setup {
    fn new() -> Result<Self, Failed> {
        let folder = TemporaryFolder::new();
        fs::set_permissions(folder.file(""), fs::Permissions::from_mode(0o755))?;
        let (input, output) = (folder.file("kvm.data"), folder.file("out"));
        sample::write_mixed_recording(&input);
        let setup = Self {
            folder,
            input,
            output,
        };
        setup.restore()?;
        Ok(setup)
    }

    /// Writes the older output.
    fn restore(&self) -> Result<(), Failed> {
        fs::write(&self.output, OLD)?;
        fs::set_permissions(&self.output, fs::Permissions::from_mode(0o644))?;
        Ok(())
    }

    /// Runs the collector. `IN` and `OUT` in the arguments stand for the recording and the output.
    fn run(&self, arguments: &str) -> Result<Output, Failed> {
        self.run_to(arguments, &self.output)
    }

    fn run_to(&self, arguments: &str, output: &Path) -> Result<Output, Failed> {
        Ok(self.command(arguments, output).output()?)
    }

    fn command(&self, arguments: &str, output: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
        command
            .current_dir(self.folder.file(""))
            .stdin(Stdio::null());
        for argument in arguments.split(' ') {
            match argument {
                "IN" => command.arg(&self.input),
                "OUT" => command.arg(output),
                argument => command.arg(argument),
            };
        }
        command
    }

    /// Runs the collector, which must succeed.
    fn succeed(&self, arguments: &str, output: &Path) -> Result<Output, Failed> {
        let result = self.run_to(arguments, output)?;
        check(result.status.success(), format!("{arguments}: {result:?}"))?;
        Ok(result)
    }

    /// Runs the collector, which must fail with this text and leave the older output and no other file.
    fn fail(&self, arguments: &str, expected: &str) -> Result<(), Failed> {
        let names = self.names()?;
        let result = self.run(arguments)?;
        let stderr = String::from_utf8_lossy(&result.stderr);
        let is_expected = matches!(result.status.code(), Some(1 | 2)) && stderr.contains(expected);
        check(is_expected, format!("{arguments}: {result:?}"))?;
        let is_old = fs::read(&self.output)? == OLD.as_bytes() && mode(&self.output)? == 0o644;
        check(is_old, format!("{arguments}: the output was changed"))?;
        let now = self.names()?;
        check(now == names, format!("{arguments}: {now:?}"))
    }

    /// Returns the names in the folder.
    fn names(&self) -> Result<Vec<String>, Failed> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder.file(""))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

fn check(condition: bool, text: String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(text.into()) }
}

/// Returns the permission bits of a file.
fn mode(path: &Path) -> Result<u32, Failed> {
    Ok(fs::metadata(path)?.mode() & 0o7777)
}
