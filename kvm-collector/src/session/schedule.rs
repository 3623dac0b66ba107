//! Decides when a live measurement ends (after a time, with a command, or at a signal), and when the
//! caller has periodic work to do.

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
use crate::source::Live;

/// Period at which the totals of exited threads are stored and their map entries are freed.
pub const REFRESH_PERIOD: Duration = Duration::from_millis(200);

/// Conditions that end a live measurement. SIGINT and SIGTERM always end it.
#[derive(Debug, Clone, Default)]
pub struct StopConditions {
    /// Maximum duration.
    pub duration: Option<Duration>,
    /// Command to run. The measurement ends with it. Empty for no command.
    pub command: Vec<String>,
}

/// Why [`Schedule::next`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeReason {
    /// Threads have started or exited. The names of new VMs must be read while they run.
    ThreadNotifications,
    /// [`REFRESH_PERIOD`] has passed.
    Refresh,
    /// The interval between two reports has passed.
    Interval,
    /// The measurement ends.
    End,
}

/// Timers, command and signals of a live measurement.
#[derive(Debug)]
pub struct Schedule {
    deadline: Option<Instant>,
    child: Option<Child>,
    command: Vec<String>,
    status: Option<ExitStatus>,
    interval: Option<Interval>,
    refresh: Interval,
    notifications: ThreadNotifications,
    interrupt: Signal,
    terminate: Signal,
}

impl StopConditions {
    /// Returns the command line, if there is a command.
    #[must_use]
    pub fn command_line(&self) -> Option<String> {
        (!self.command.is_empty()).then(|| self.command.join(" "))
    }

    /// Returns whether there is a command.
    #[must_use]
    pub fn has_command(&self) -> bool {
        !self.command.is_empty()
    }

    /// Starts the timers and the command. Call it after the programs are attached.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn start(&self, interval: Option<Duration>) -> anyhow::Result<Schedule> {
        self.start_with(interval, Stdio::inherit())
    }

    /// Like [`StopConditions::start`], but redirects stdout of the command to stderr, because the recording
    /// goes to stdout.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn start_with_stderr(&self) -> anyhow::Result<Schedule> {
        self.start_with(None, io::stderr().as_fd().try_clone_to_owned()?.into())
    }

    fn start_with(&self, interval: Option<Duration>, stdout: Stdio) -> anyhow::Result<Schedule> {
        // Signals first, so that a Ctrl-C during the start also ends with a report.
        let [interrupt, terminate] = signals::termination_signals()?;
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
            // A deadline that overflows the clock means no limit.
            deadline: self.duration.and_then(|duration| now.checked_add(duration)),
            child,
            command: self.command.clone(),
            status: None,
            interval: interval.map(interval_timer),
            refresh: interval_timer(REFRESH_PERIOD),
            notifications: ThreadNotifications::default(),
            interrupt,
            terminate,
        })
    }
}

/// Creates a timer that skips missed ticks. Its first tick is after one period.
pub fn interval_timer(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

impl Schedule {
    /// Returns whether reports per interval were requested.
    #[must_use]
    pub fn has_intervals(&self) -> bool {
        self.interval.is_some()
    }

    /// Waits for threads that start or exit in a measurement, and names the VM of the command in it.
    ///
    /// # Errors
    /// When the notifications about threads cannot be polled.
    pub fn watch_threads(&mut self, live: &mut Live) -> io::Result<()> {
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            live.set_command(pid, &self.command);
        }
        self.notifications = ThreadNotifications::new(live.notifications_fd()?)?;
        Ok(())
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// When waiting for the command or for notifications fails.
    pub async fn next(&mut self) -> anyhow::Result<WakeReason> {
        let deadline = self.deadline;
        tokio::select! {
            // If several are ready, the end has priority.
            biased;
            status = wait_for_child(&mut self.child) => {
                self.status = Some(status?);
                self.child = None;
                Ok(WakeReason::End)
            }
            _ = self.interrupt.recv() => Ok(WakeReason::End),
            _ = self.terminate.recv() => Ok(WakeReason::End),
            () = wait_until(deadline) => Ok(WakeReason::End),
            () = next_tick(self.interval.as_mut()) => Ok(WakeReason::Interval),
            result = self.notifications.arrived() => result.map(|()| WakeReason::ThreadNotifications).map_err(Into::into),
            _ = self.refresh.tick() => Ok(WakeReason::Refresh),
        }
    }

    /// Ends the command if it is still running: SIGTERM, and SIGKILL after 5 seconds. Returns whether it
    /// failed before that.
    ///
    /// # Errors
    /// When the command cannot be killed.
    pub async fn finish(mut self) -> anyhow::Result<bool> {
        if let Some(mut child) = self.child.take() {
            if let Some(pid) = child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(rustix::process::Pid::from_raw)
            {
                // The command may already have ended, by the same Ctrl-C.
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

/// Waits for notifications of threads that start or exit.
#[derive(Debug, Default)]
pub struct ThreadNotifications(Option<AsyncFd<OwnedFd>>);

impl ThreadNotifications {
    /// Waits on a descriptor that is readable when there are notifications. With `None`, there never are
    /// any.
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub fn new(notifications: Option<OwnedFd>) -> io::Result<Self> {
        let Some(fd) = notifications else {
            return Ok(Self(None));
        };
        // SAFETY: an `OwnedFd` always returns the same descriptor and keeps it open.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self(Some(fd)))
    }

    /// Waits until there are notifications.
    ///
    /// # Errors
    /// When the descriptor cannot be polled.
    pub async fn arrived(&self) -> io::Result<()> {
        match &self.0 {
            Some(fd) => {
                // The caller reads all notifications before it waits again.
                fd.readable().await?.clear_ready();
                Ok(())
            }
            None => pending().await,
        }
    }
}

async fn wait_for_child(child: &mut Option<Child>) -> io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => pending().await,
    }
}

/// Waits until the deadline; forever if there is none.
pub async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

async fn next_tick(interval: Option<&mut Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => pending().await,
    }
}
