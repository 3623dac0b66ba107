//! What a process may still do in the sandbox, and what the collector keeps when it reads recordings.
//!
//! `tests/live/sandbox.rs` has the tests of measurements.

mod forbidden;
mod namespaces;
mod outputs;
#[path = "../common/raw_event.rs"]
mod raw_event;
#[path = "../common/raw_record.rs"]
mod raw_record;
mod reading;
#[path = "../messages/sample.rs"]
#[expect(dead_code, reason = "the other samples are for messages")]
mod sample;
#[path = "../common/temporary_folder.rs"]
mod temporary_folder;
#[path = "../common/thread_status.rs"]
mod thread_status;

use std::{
    fmt,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Output},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use temporary_folder::TemporaryFolder;

/// Why a test cannot run here.
type Reason = Option<String>;

fn main() -> ExitCode {
    // First of all: the process must have one thread, and must not have entered the sandbox before.
    if let Some(code) = forbidden::run_if_requested() {
        return code;
    }
    let root = || (!is_root()).then(|| "not root".to_owned());
    let always = || None;
    let tests = vec![
        test("a_reader_has_no_privilege", always, reading::as_this_user),
        test(
            "a_reader_of_another_user_has_no_privilege",
            root,
            reading::as_nobody,
        ),
        test(
            "a_user_compares_a_recording_with_a_report",
            root,
            reading::with_baseline,
        ),
        test(
            "links_in_a_directory_are_read",
            forbidden::why_impossible,
            reading::through_links,
        ),
        test("top_uses_the_terminal", always, reading::on_a_terminal),
        test("no_sandbox_keeps_all", root, reading::without_sandbox),
        test(
            "other_things_are_forbidden",
            forbidden::why_impossible,
            forbidden::check,
        ),
        test(
            "recordings_and_outputs_of_others_are_usable",
            root,
            outputs::of_others,
        ),
        test(
            "outputs_in_sticky_directories_are_replaced",
            root,
            outputs::in_sticky_directory,
        ),
        test(
            "pipes_and_devices_are_usable",
            always,
            outputs::pipes_and_devices,
        ),
        test(
            "recordings_are_read_in_namespaces",
            namespaces::why_impossible,
            namespaces::reading,
        ),
        test(
            "a_measurement_needs_privileges_of_the_host",
            namespaces::why_impossible,
            namespaces::measuring,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A test that is reported as ignored, with the reason, where it is impossible.
fn test(name: &str, why_impossible: fn() -> Reason, run: fn() -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(name, move || match why_impossible() {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => run().map(|()| Completion::Completed),
    })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The user `nobody`.
const NOBODY: u32 = 65534;

/// A folder with a recording.
struct Setup {
    folder: TemporaryFolder,
    input: PathBuf,
}

impl Setup {
    fn new() -> Self {
        let folder = TemporaryFolder::new();
        let input = folder.file("kvm.data");
        sample::write_mixed_recording(&input);
        Self { folder, input }
    }
}

/// A copy of the collector that every user can run.
fn copy_of_collector(folder: &TemporaryFolder) -> Result<PathBuf, Failed> {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let copy = folder.file("collector");
    fs::copy(collector(), &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(folder.file(""), fs::Permissions::from_mode(0o755))?;
    Ok(copy)
}

fn collector() -> &'static str {
    env!("CARGO_BIN_EXE_kvm-collector")
}

/// Runs a command as `nobody`.
fn as_nobody(program: &PathBuf) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY);
    command
}

/// Runs a command, which must succeed.
fn succeed(command: &mut Command) -> Result<Output, Failed> {
    let output = command.output()?;
    ensure(output.status.success(), || {
        format!("{command:?}: {output:?}")
    })?;
    Ok(output)
}

fn ensure<T: fmt::Display>(condition: bool, text: impl FnOnce() -> T) -> Result<(), Failed> {
    if condition {
        Ok(())
    } else {
        Err(text().to_string().into())
    }
}
