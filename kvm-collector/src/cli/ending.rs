//! How long a measurement goes on: for a time, until a command ends, or until Ctrl-C.

use std::{
    future::pending,
    os::fd::AsFd as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    process::{Child, Command},
    signal::unix::Signal,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::signals;

/// How often the threads seen are looked at for new VMs, whose names must be read while they live.
pub(super) const LOOK_AROUND: Duration = Duration::from_millis(200);

/// How long it goes on.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Duration")]
pub(super) struct Ending {
    /// For this long (500ms, 10s, 1h); otherwise until CMD ends, or until Ctrl-C
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,

    /// Run this command, and go on until it ends. All VMs are watched, not only the command's
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// A duration as people write it; 0 is none.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("a duration must be longer than 0".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it as 500ms, 10s or 1h")),
    }
}

/// What happened while waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    /// Time to look around.
    LookAround,
    /// The interval asked for is over.
    Interval,
    /// The measurement is over.
    End,
}

/// A measurement that goes on.
#[derive(Debug)]
pub(super) struct Course {
    deadline: Option<Instant>,
    child: Option<Child>,
    status: Option<ExitStatus>,
    interval: Option<Interval>,
    look_around: Interval,
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// The command in one line, if there is one.
    pub(super) fn command_line(&self) -> Option<String> {
        (!self.command.is_empty()).then(|| self.command.join(" "))
    }

    /// How long, if it was said.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.duration
    }

    /// Starts the clock and the command. The programs are attached by now.
    pub(super) fn begin(&self, interval: Option<Duration>) -> anyhow::Result<Course> {
        self.begin_with(interval, Stdio::inherit())
    }

    /// As [`Ending::begin`], with what the command prints on stderr: stdout is for something else.
    pub(super) fn begin_off_stdout(&self) -> anyhow::Result<Course> {
        self.begin_with(None, std::io::stderr().as_fd().try_clone_to_owned()?.into())
    }

    fn begin_with(&self, interval: Option<Duration>, stdout: Stdio) -> anyhow::Result<Course> {
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
        let every = |period: Duration| {
            let mut interval = interval_at(now + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
            interval
        };
        Ok(Course {
            // A time too long for the clock is no limit.
            deadline: self.duration.and_then(|duration| now.checked_add(duration)),
            child,
            status: None,
            interval: interval.map(every),
            look_around: every(LOOK_AROUND),
            interrupt,
            terminate,
        })
    }
}

impl Course {
    /// Waits for the next thing to happen.
    pub(super) async fn next(&mut self) -> anyhow::Result<Happened> {
        let deadline = self.deadline;
        tokio::select! {
            // An end before anything else that happens at the same time.
            biased;
            status = wait(&mut self.child) => {
                self.status = Some(status?);
                self.child = None;
                Ok(Happened::End)
            }
            _ = self.interrupt.recv() => Ok(Happened::End),
            _ = self.terminate.recv() => Ok(Happened::End),
            () = until(deadline) => Ok(Happened::End),
            () = tick(self.interval.as_mut()) => Ok(Happened::Interval),
            _ = self.look_around.tick() => Ok(Happened::LookAround),
        }
    }

    /// Ends the command if it still runs. Returns whether it failed by itself.
    pub(super) async fn finish(mut self) -> anyhow::Result<bool> {
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

async fn wait(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => pending().await,
    }
}

/// Waits for a moment; for ever, if there is none.
pub(super) async fn until(deadline: Option<Instant>) {
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
