//! Reads exits of the running kernel for the screen of `top`, at the rate that the screen requests.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, sleep},
};

use super::{
    super::{REFRESH_PERIOD, ThreadNotifications, interval_timer, termination_signals, wait_until},
    control::{Control, ControlQueue},
    idle::IdleRows,
    names::{NameCache, new_reading},
    output::TopOutput,
};
use crate::{
    source::Live,
    view::{Scope, TopReading},
};

/// Measures for a time, or until SIGINT or SIGTERM, and reads all exits once.
///
/// # Errors
/// When the kernel cannot be read.
pub async fn read_once(live: &mut Live, duration: Duration) -> anyhow::Result<TopReading> {
    let [mut interrupt, mut terminate] = termination_signals()?;
    let mut refresh = interval_timer(REFRESH_PERIOD);
    let notifications = ThreadNotifications::new(live.notifications_fd()?)?;
    let mut idle = IdleRows::new(live);
    let end = sleep(duration);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            result = notifications.arrived() => {
                result?;
                live.handle_notifications()?;
            }
            _ = refresh.tick() => live.update_threads()?,
        }
    }
    live.stop()?;
    let mut reading = read_exits(live, Scope::default(), &mut NameCache::default())?;
    reading.cover_whole_time();
    if let Some(idle) = &mut idle {
        idle.add_to(&mut reading, live);
    }
    Ok(reading)
}

/// Reads all exits and the histograms of a scope.
fn read_exits(live: &mut Live, scope: Scope, names: &mut NameCache) -> anyhow::Result<TopReading> {
    let timing = live.options().timing.as_ref();
    let mut reading = new_reading(scope, timing);
    let rest = live.read_exits(&mut |exits| reading.add(exits))?;
    let mut reading = reading.finish(rest);
    let vm_name = |tgid| Some(live.names().find_name(tgid)?.name.clone());
    names.add_names(&mut reading, live.options().timing.as_ref(), &vm_name);
    Ok(reading)
}

/// Reads from the kernel. It runs in a thread of its own, so keys are handled without delay.
#[derive(Debug)]
pub struct TopReader<O> {
    live: Live,
    controls: ControlQueue,
    output: O,
    interval: Interval,
    deadline: Option<Instant>,
    scope: Scope,
    paused: bool,
    names: NameCache,
    idle: Option<IdleRows>,
    signals: [Signal; 3],
}

impl<O: TopOutput> TopReader<O> {
    /// Creates the reader and installs the signal handlers. Call it within a runtime, and before the terminal
    /// is switched to raw mode: after this call, a signal ends the reader and the terminal can be restored.
    ///
    /// # Errors
    /// When a signal handler cannot be installed.
    pub fn new(
        live: Live,
        interval: Duration,
        duration: Option<Duration>,
        controls: ControlQueue,
        output: O,
    ) -> io::Result<Self> {
        let [interrupt, terminate] = termination_signals()?;
        Ok(Self {
            idle: IdleRows::new(&live),
            live,
            controls,
            output,
            interval: interval_timer(interval),
            // A deadline that overflows the clock means no limit.
            deadline: duration.and_then(|it| Instant::now().checked_add(it)),
            scope: Scope::default(),
            paused: false,
            names: NameCache::default(),
            signals: [interrupt, terminate, signal(SignalKind::hangup())?],
        })
    }

    /// Reads until a signal, the end of the duration, or [`ControlQueue::end`].
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut refresh = interval_timer(REFRESH_PERIOD);
        let notifications = ThreadNotifications::new(self.live.notifications_fd()?)?;
        loop {
            let [interrupt, terminate, hangup] = &mut self.signals;
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                () = wait_until(self.deadline) => return Ok(()),
                controls = self.controls.next() => {
                    let Some(controls) = controls else { return Ok(()) };
                    for control in controls {
                        self.apply(control)?;
                    }
                }
                _ = self.interval.tick(), if !self.paused => self.send_next_reading()?,
                result = notifications.arrived() => {
                    result?;
                    self.live.handle_notifications()?;
                }
                _ = refresh.tick() => self.live.update_threads()?,
            }
        }
    }

    fn apply(&mut self, control: Control) -> anyhow::Result<()> {
        match control {
            Control::SelectScope(scope) => {
                self.scope = scope;
                let reading = read_exits(&mut self.live, self.scope, &mut self.names)?;
                self.output.send_histograms(Box::new(reading));
                Ok(())
            }
            Control::Interval(interval) => {
                self.interval = interval_timer(interval);
                Ok(())
            }
            Control::Pause(paused) => {
                self.paused = paused;
                if paused {
                    return Ok(());
                }
                self.interval.reset();
                self.send_next_reading()
            }
        }
    }

    fn send_next_reading(&mut self) -> anyhow::Result<()> {
        let mut reading = read_exits(&mut self.live, self.scope, &mut self.names)?;
        if let Some(idle) = &mut self.idle {
            idle.add_to(&mut reading, &self.live);
        }
        self.output.send_reading(Box::new(reading));
        Ok(())
    }
}
