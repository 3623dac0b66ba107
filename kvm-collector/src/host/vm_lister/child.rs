//! The process that lists VMs.

use std::{
    ffi::c_int,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixStream,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use caps::{CapSet, Capability, CapsHashSet};

use super::{
    super::{descriptors::close_others, files::numbered_entries},
    local::LocalLister,
    protocol::{Request, write_answer},
};

/// Name of the process. The kernel cuts it to 15 bytes.
const NAME: &std::ffi::CStr = c"kvm-collector-vms";

/// Signals that end or stop the collector. It may still list VMs for its last report then, and closes the socket
/// when it ends.
const IGNORED_SIGNALS: [c_int; 8] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGPIPE,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Starts the process, which answers requests that arrive at the other end of `own_end` until that is closed.
/// Returns its process id.
///
/// # Errors
/// If this process has several threads, or cannot be forked.
pub(super) fn start(own_end: UnixStream, lister: LocalLister) -> io::Result<libc::pid_t> {
    let threads = numbered_entries(Path::new("/proc/self/task"))?.len();
    if threads != 1 {
        let text = format!("this process has {threads} threads, and only one can be forked");
        return Err(io::Error::other(text));
    }
    // SAFETY: takes no arguments.
    let parent = unsafe { libc::getpid() };
    // SAFETY: this process has only one thread, so no lock is held by another one.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let run =
                move || confine(own_end.as_raw_fd(), parent).and_then(|()| serve(own_end, lister));
            let code = match catch_unwind(AssertUnwindSafe(run)) {
                Ok(Ok(())) => 0,
                _ => 1,
            };
            // SAFETY: ends the process without the exit handlers of the collector, which would write its output.
            unsafe { libc::_exit(code) }
        }
        child => Ok(child),
    }
}

/// Gives up everything that listing VMs does not need. `parent` is the process id of the collector.
fn confine(socket: RawFd, parent: libc::pid_t) -> io::Result<()> {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    // SAFETY: system calls with numbers and constants. This process uses no descriptor of the collector but the socket.
    unsafe {
        // Signals of the terminal do not reach a new session, and the working directory keeps no file system busy.
        check(libc::setsid())?;
        check(libc::chdir(c"/".as_ptr()))?;
        for signal in IGNORED_SIGNALS {
            libc::signal(signal, libc::SIG_IGN);
        }
        for standard in 0..3 {
            check(libc::dup2(null.as_raw_fd(), standard))?;
        }
        drop(null);
        let mut kept = [0, 1, 2, socket];
        kept.sort_unstable();
        close_others(&kept);
        check(libc::prctl(libc::PR_SET_NAME, NAME.as_ptr()))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    }
    drop_capabilities().map_err(io::Error::other)?;
    // SAFETY: system calls with numbers.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        if libc::getppid() != parent {
            return Err(io::Error::other("the collector has ended"));
        }
    }
    Ok(())
}

fn check(result: c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Keeps only the capabilities that reading `/proc` needs: `CAP_SYS_PTRACE` for the files of other users' processes, and
/// `CAP_DAC_READ_SEARCH` for their directories; in its place `CAP_DAC_OVERRIDE`, if only that is held (as in Docker).
fn drop_capabilities() -> Result<(), caps::errors::CapsError> {
    let held = caps::read(None, CapSet::Permitted)?;
    let read_search = match held.contains(&Capability::CAP_DAC_READ_SEARCH) {
        true => Capability::CAP_DAC_READ_SEARCH,
        false => Capability::CAP_DAC_OVERRIDE,
    };
    let needed = CapsHashSet::from([Capability::CAP_SYS_PTRACE, read_search]);
    let kept: CapsHashSet = held.intersection(&needed).copied().collect();
    caps::clear(None, CapSet::Inheritable)?;
    // The effective set must stay within the permitted one.
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}

/// Answers requests until the socket is closed.
fn serve(mut socket: UnixStream, mut lister: LocalLister) -> io::Result<()> {
    loop {
        let request = match Request::read(&mut socket) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            request => request?,
        };
        match request {
            Some(Request::List) => {
                let list = lister.list().map_err(|error| error.to_string());
                write_answer(&list, &mut socket)?;
            }
            Some(Request::Vcpus(tgid)) => {
                write_answer(&Ok(lister.read_vcpus(tgid)), &mut socket)?;
            }
            None => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}
