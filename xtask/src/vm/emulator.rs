//! Runs an emulator: passes its output on as it appears, and stops it at the time limits of the VM.

use std::{
    io::Read as _,
    ops::ControlFlow,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{config::Vm, run_files::RunFiles};
use crate::process;

/// Returns a command that runs an emulator. The kernel kills it when xtask ends for any reason.
pub(super) fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Runs an emulator until it ends or `receive` breaks. `receive` gets its stdout, in pieces.
///
/// # Errors
/// If a time limit of the VM passes, or `receive` fails. The error contains the logs.
pub(super) fn run(
    emulator: &mut Command,
    vm: &Vm,
    files: &RunFiles,
    receive: &mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut child = emulator
        // An open pipe without data: at the end of its input, QEMU closes the host side of the port, and the guest blocks.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(files.create_emulator_log()?)
        .spawn()
        .with_context(|| format!("cannot run {}", process::format_command(emulator)))?;
    match copy_output(&mut child, vm, receive) {
        Ok(ControlFlow::Continue(())) => {}
        Ok(ControlFlow::Break(())) => child.kill()?,
        Err(err) => {
            child.kill()?;
            child.wait()?;
            return Err(files.add_logs(&err));
        }
    }
    child.wait()?;
    Ok(())
}

/// Passes the output on until the emulator ends or `receive` breaks.
fn copy_output(
    child: &mut Child,
    vm: &Vm,
    receive: &mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let deadline = Instant::now() + vm.timeout;
    let mut pipe = child
        .stdout
        .take()
        .context("the emulator's output is piped")?;
    let (sender, receiver) = mpsc::channel();
    // A read has no timeout, so another thread reads.
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(vm.max_silence)) {
            Ok(chunk) => {
                if receive(&chunk)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(ControlFlow::Continue(())),
            Err(RecvTimeoutError::Timeout) if left > vm.max_silence => {
                bail!(
                    "the VM printed nothing for {:?} and was stopped",
                    vm.max_silence
                )
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the VM was stopped at the time limit of {:?}", vm.timeout)
            }
        }
    }
}
