//! `top` on a terminal that accepts no output.

use std::{
    thread::{self},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use rustix::process::Signal;

use super::{MANY_ITERATIONS, check_delay, load::Load, memory_limit::MemoryLimit};
use crate::{
    check::{ensure, ensure_equal},
    guest::Guest,
    pty::Pty,
    requirements::collector_command,
};

/// The terminal accepts no output: from the start, or after the first screen.
pub(super) fn blocked_terminal() -> Result<(), Failed> {
    for blocked_from_the_start in [true, false] {
        let pty = Pty::open()?;
        let before = pty.settings()?;
        let load = Load::prepare(MANY_ITERATIONS)?;
        if blocked_from_the_start {
            pty.fill()?;
        }
        let args = ["top", "--kind", "pio", "-I", "50ms", "-p", &load.pid()];
        let mut top = pty.spawn(collector_command().args(args))?;
        if !blocked_from_the_start {
            pty.wait_for("pio/s")?;
            pty.fill()?;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        while pty.settings()? == before {
            ensure(Instant::now() < deadline, || {
                "top does not switch to raw mode".into()
            })?;
            thread::sleep(Duration::from_millis(20));
        }
        let memory = MemoryLimit::new(top.pid())?;
        let load_report = load.run()?;
        ensure(load_report.guest.userspace_exits()? > 8000, || {
            "too few exits".into()
        })?;
        thread::sleep(Duration::from_secs(2));
        memory.check()?;
        top.signal(Signal::TERM)?;
        let start = Instant::now();
        ensure_equal("the exit code", top.wait()?, Some(0))?;
        check_delay(start)?;
        ensure_equal("the terminal", pty.settings()?, before)?;
        // Pending output was discarded, so that the terminal gets the sequence that leaves the alternate screen.
        pty.wait_for("\x1b[?1049l")?;
    }
    Ok(())
}

/// The terminal accepts no output while many VMs run and keys are typed. Neither readings nor keys accumulate in memory.
pub(super) fn blocked_terminal_with_many_vms() -> Result<(), Failed> {
    let pty = Pty::open()?;
    // With so many VMs, each reading has about 20 KB.
    let vms = ["--vms", "32", "--vcpus", "2", "--sleep", "20ms"];
    let mut guest = Guest::prepare(&[&["-k", "io,io-read", "-n", "100000000"], &vms[..]].concat())?;
    let args = ["top", "--kind", "pio", "-I", "1ms", "-p", &guest.pid];
    let mut top = pty.spawn(collector_command().args(args))?;
    pty.wait_for("pio/s")?;
    guest.start()?;
    // Until top shows all of them. Each screen hides the cursor.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        pty.wait_for("\x1b[?25l")?;
    }
    pty.fill()?;
    let memory = MemoryLimit::new(top.pid())?;
    let until = Instant::now() + Duration::from_secs(5);
    let mut typed = 0;
    while Instant::now() < until {
        typed += pty.type_keys()?;
    }
    memory.check()?;
    ensure(typed > 4 << 10, || format!("only {typed} keys were typed"))?;
    top.signal(Signal::TERM)?;
    let start = Instant::now();
    ensure_equal("the exit code", top.wait()?, Some(0))?;
    check_delay(start)
}
