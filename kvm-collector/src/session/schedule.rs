//! How long a live measurement goes on, and what is due meanwhile: until a time is over, a command has ended, or
//! Ctrl-C.

use std::{
    future::pending,
    io,
    os::fd::{AsFd as _, OwnedFd},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::{Child, Command},
    signal::unix::Signal,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::signals;

/// How often what ended threads have counted is stored, so that their entries can be used again.
pub const REFRESH_PERIOD: Duration = Duration::from_millis(200);

/// When a live measurement ends. Ctrl-C always ends it.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// After so much time.
    pub duration: Option<Duration>,
    /// When this command has ended; empty for none.
    pub command: Vec<String>,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Threads have come or gone: the names of new VMs have to be read while they live.
    Threads,
    /// What ended threads have counted has to be stored.
    Refresh,
    /// An interval is over.
    Interval,
    /// The measurement is over.
    End,
}

/// A live measurement's timers, its command and its signals.
#[derive(Debug)]
pub struct Schedule {
    deadline: Option<Instant>,
    child: Option<Child>,
    status: Option<ExitStatus>,
    interval: Option<Interval>,
    refresh: Interval,
    notices: ThreadNotices,
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// The command in one line, if there is one.
    #[must_use]
    pub fn command_line(&self) -> Option<String> {
        (!self.command.is_empty()).then(|| self.command.join(" "))
    }

    /// Starts the clock and the command. The programs are attached by now.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn begin(&self, interval: Option<Duration>) -> anyhow::Result<Schedule> {
        self.begin_with(interval, Stdio::inherit())
    }

    /// As [`Ending::begin`], with what the command prints on stderr: stdout is for something else.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn begin_off_stdout(&self) -> anyhow::Result<Schedule> {
        self.begin_with(None, io::stderr().as_fd().try_clone_to_owned()?.into())
    }

    fn begin_with(&self, interval: Option<Duration>, stdout: Stdio) -> anyhow::Result<Schedule> {
        // Signals first: a Ctrl-C from here on is an end with a report.
        let [interrupt, terminate] = signals::of_end()?;
        let child = match self.command.split_first() {
            Some((program, args)) => Some(
                Command::new(program)
                    .args(args)
                    .stdout(stdout)
                    .kill_on_drop(true)
                    .spawn()
                    .with_context(|| format!("cannot run `{program}`"))?,
            ),
            None => None,
        };
        let now = Instant::now();
        Ok(Schedule {
            // A time too long for the clock is no limit.
            deadline: self.duration.and_then(|duration| now.checked_add(duration)),
            child,
            status: None,
            interval: interval.map(every),
            refresh: every(REFRESH_PERIOD),
            notices: ThreadNotices::default(),
            interrupt,
            terminate,
        })
    }
}

/// A timer that leaves out what it is too late for.
pub fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

impl Schedule {
    /// Are intervals reported?
    #[must_use]
    pub fn has_intervals(&self) -> bool {
        self.interval.is_some()
    }

    /// Says when threads have come or gone, by a descriptor that is readable then.
    ///
    /// # Errors
    /// When the descriptor cannot be waited for.
    pub fn watch_threads(&mut self, notices: Option<OwnedFd>) -> io::Result<()> {
        self.notices = ThreadNotices::new(notices)?;
        Ok(())
    }

    /// Waits for what is due next.
    ///
    /// # Errors
    /// When the command cannot be waited for.
    pub async fn next(&mut self) -> anyhow::Result<Due> {
        let deadline = self.deadline;
        tokio::select! {
            // An end before anything else that happens at the same time.
            biased;
            status = wait(&mut self.child) => {
                self.status = Some(status?);
                self.child = None;
                Ok(Due::End)
            }
            _ = self.interrupt.recv() => Ok(Due::End),
            _ = self.terminate.recv() => Ok(Due::End),
            () = until(deadline) => Ok(Due::End),
            () = tick(self.interval.as_mut()) => Ok(Due::Interval),
            due = self.notices.come() => due.map(|()| Due::Threads).map_err(Into::into),
            _ = self.refresh.tick() => Ok(Due::Refresh),
        }
    }

    /// Ends the command if it still runs. Returns whether it failed by itself.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub async fn finish(mut self) -> anyhow::Result<bool> {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(rustix::process::Pid::from_raw)
            {
                // It may have ended, or be ending, by the same Ctrl-C.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            if tokio::time::timeout(Duration::from_secs(5), child.wait())
                .await
                .is_err()
            {
                child.kill().await?;
            }
        }
        match self.status {
            Some(status) if !status.success() => {
                log::error!("the command ended with {status}");
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Waits for notices of threads that come and go.
#[derive(Debug, Default)]
pub struct ThreadNotices(Option<AsyncFd<OwnedFd>>);

impl ThreadNotices {
    /// By a descriptor that is readable when there are some; `None` never has any.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn new(notices: Option<OwnedFd>) -> io::Result<Self> {
        let Some(fd) = notices else {
            return Ok(Self(None));
        };
        // SAFETY: an `OwnedFd` always gives the same descriptor, and keeps it open.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self(Some(fd)))
    }

    /// Waits until there are some.
    ///
    /// # Errors
    /// When it cannot be waited.
    pub async fn come(&self) -> io::Result<()> {
        match &self.0 {
            Some(fd) => {
                // Whoever waits reads all of them before it waits again.
                fd.readable().await?.clear_ready();
                Ok(())
            }
            None => pending().await,
        }
    }
}

async fn wait(child: &mut Option<Child>) -> io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => pending().await,
    }
}

/// Waits for a moment; for ever, if there is none.
pub async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

async fn tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}
