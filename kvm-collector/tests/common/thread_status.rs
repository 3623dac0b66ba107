//! What `/proc` shows of the restrictions of a process's threads.

use std::{
    fs, io,
    time::{Duration, Instant},
};

/// Restrictions of a thread (proc_pid_status(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThreadStatus {
    pub(crate) name: String,
    /// Permitted capabilities.
    pub(crate) permitted: u64,
    pub(crate) effective: u64,
    pub(crate) inheritable: u64,
    pub(crate) no_new_privs: bool,
    /// System calls are filtered.
    pub(crate) has_filter: bool,
    /// Ctrl-C is handled, rather than deadly.
    pub(crate) handles_interrupt: bool,
}

impl ThreadStatus {
    /// Reads the restrictions of each thread of a process.
    pub(crate) fn read_all(pid: u32) -> io::Result<Vec<Self>> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
        tasks
            .map(|task| {
                let text = fs::read_to_string(task?.path().join("status"))?;
                let field = |name: &str| {
                    let line = text.lines().find_map(|it| it.strip_prefix(name));
                    line.unwrap_or_default().trim().to_owned()
                };
                let mask = |name| u64::from_str_radix(&field(name), 16).unwrap_or(u64::MAX);
                Ok(Self {
                    name: field("Name:"),
                    permitted: mask("CapPrm:"),
                    effective: mask("CapEff:"),
                    inheritable: mask("CapInh:"),
                    no_new_privs: field("NoNewPrivs:") == "1",
                    has_filter: field("Seccomp:") == "2",
                    handles_interrupt: mask("SigCgt:") & (1 << (libc::SIGINT - 1)) != 0,
                })
            })
            .collect()
    }

    /// Waits until this is true for all threads of a process, and returns their restrictions.
    pub(crate) fn wait_until(pid: u32, is_ready: impl Fn(&Self) -> bool) -> io::Result<Vec<Self>> {
        let began = Instant::now();
        loop {
            let threads = Self::read_all(pid)?;
            if threads.iter().all(&is_ready) {
                return Ok(threads);
            }
            if began.elapsed() > Duration::from_secs(10) {
                let text = format!("it does not get ready: {threads:?}");
                return Err(io::Error::other(text));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
