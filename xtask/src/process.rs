//! Runs other programs. Every error names the command that failed.

use std::{
    env,
    ffi::OsStr,
    io::stderr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Prints progress on stderr; stdout is for results.
macro_rules! info {
    ($($arg:tt)*) => { eprintln!("xtask: {}", format_args!($($arg)*)) };
}
pub(crate) use info;

/// Runs a command, with its output on stderr.
///
/// # Errors
/// If it cannot be run or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    command.stdout(Stdio::from(stderr()));
    let status = status(command)?;
    if !status.success() {
        bail!("{} failed: {status}", format_command(command));
    }
    Ok(())
}

/// Runs a command and returns its exit status.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("cannot run {}", format_command(command)))
}

/// Runs a command and returns its stdout.
///
/// # Errors
/// If it cannot be run, fails, or prints something that is not UTF-8.
pub(crate) fn read_stdout(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", format_command(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", format_command(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} did not print text", format_command(command)))
}

/// Finds a program on PATH, or in /usr/sbin and /sbin, which an ordinary user's PATH often lacks.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Returns a command that runs `program` as root, through sudo if necessary: loading BPF programs needs
/// root.
pub(crate) fn as_root(program: &Path) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args([OsStr::new("--"), program.as_os_str()]);
    sudo
}

/// Formats a command as a user would type it, without its environment.
pub(crate) fn format_command(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy()));
    format!("`{}`", words.join(" "))
}
