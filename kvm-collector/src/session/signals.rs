//! SIGINT and SIGTERM. The first signal ends the measurement with a report; a later one kills the
//! process, because writing the report may block.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use libc::c_int;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::host::clock;

/// A signal within this time of the first one counts as the same one: `timeout` signals its command
/// and then the command's process group.
const REPEAT_WINDOW_NS: u64 = 500_000_000;

/// Time of the first signal; 0 if there was none.
static FIRST_SIGNAL_NS: AtomicU64 = AtomicU64::new(0);

/// Installs the signal handlers. Returns the streams of SIGINT and SIGTERM.
///
/// # Errors
/// When a handler cannot be installed.
pub fn termination_signals() -> io::Result<[Signal; 2]> {
    // The first use of the clock reads files, which a signal handler must not do.
    let _ = clock::monotonic_ns();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(c_int) = handle_termination;
        // SAFETY: the handler is async-signal-safe. Tokio installs its own handler after this one, and calls this
        // one first.
        if unsafe { libc::signal(signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok([
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    ])
}

/// Kills the process at the second signal. Works also while the process is blocked in a write.
extern "C" fn handle_termination(signal: c_int) {
    let now_ns = clock::monotonic_ns();
    if let Err(first_ns) = FIRST_SIGNAL_NS.compare_exchange(0, now_ns, Relaxed, Relaxed)
        && now_ns.saturating_sub(first_ns) >= REPEAT_WINDOW_NS
    {
        // SAFETY: both functions are async-signal-safe. The signal is delivered when this handler returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}
