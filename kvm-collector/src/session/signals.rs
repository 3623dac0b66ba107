//! The signals that ask for an end. The first is an end with a report; whether anybody reads that is not in our hands, so
//! another one, later, ends the process whatever it waits for.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use libc::c_int;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::host::clock;

/// What comes within this time of the first is the same wish: `timeout` sends its signal to its command, and then to the
/// command's whole group.
const SAME_WISH_NS: u64 = 500_000_000;

/// When the first came; 0 before.
static FIRST_NS: AtomicU64 = AtomicU64::new(0);

/// SIGINT and SIGTERM, from here on.
pub fn of_end() -> io::Result<[Signal; 2]> {
    // The first use of the clock reads files, which a handler may not do.
    let _ = clock::monotonic_ns();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(c_int) = asked;
        // SAFETY: the handler does only what a handler may. Tokio, which comes after it, calls it before its own.
        if unsafe { libc::signal(signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok([
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    ])
}

/// Runs in whatever the process is doing, a write that never ends included.
extern "C" fn asked(signal: c_int) {
    let now_ns = clock::monotonic_ns();
    if let Err(first_ns) = FIRST_NS.compare_exchange(0, now_ns, Relaxed, Relaxed)
        && now_ns.saturating_sub(first_ns) >= SAME_WISH_NS
    {
        // SAFETY: both may be called here. It is delivered as soon as this handler returns, and ends the process.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}
