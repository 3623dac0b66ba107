//! Reads exits of the running kernel for the screen of `top`, at the rate that the screen requests.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kvm_ebpf_common::Key;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::{Instant, Interval, sleep},
};

use super::{REFRESH_PERIOD, ThreadNotifications, interval_timer, termination_signals, wait_until};
use crate::{
    source::Live,
    view::{KeyNames, Scope, TopReading},
};

/// A request of the screen to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Read histograms of this scope from now on.
    SelectScope(Scope),
    /// Set the time between two readings.
    Interval(Duration),
    /// Pause (true) or resume (false). The first reading after a pause is immediate.
    Pause(bool),
}

/// Passes requests from the screen to the reader. A newer request replaces a pending one of the same kind.
#[derive(Debug, Clone, Default)]
pub struct ControlQueue(Arc<SharedControls>);

#[derive(Debug, Default)]
struct SharedControls {
    pending: Mutex<PendingControls>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct PendingControls {
    interval: Option<Duration>,
    pause: Option<bool>,
    scope: Option<Scope>,
    is_ended: bool,
}

impl ControlQueue {
    fn change(&self, change: impl FnOnce(&mut PendingControls)) {
        let pending = self.0.pending.lock();
        change(&mut pending.unwrap_or_else(PoisonError::into_inner));
        self.0.arrived.notify_one();
    }

    /// Sends a request.
    pub fn send(&self, control: Control) {
        self.change(|pending| match control {
            Control::SelectScope(scope) => pending.scope = Some(scope),
            Control::Interval(interval) => pending.interval = Some(interval),
            Control::Pause(paused) => pending.pause = Some(paused),
        });
    }

    /// Ends the reader.
    pub fn end(&self) {
        self.change(|pending| pending.is_ended = true);
    }

    /// Waits for requests. Returns `None` if the reader must end.
    async fn next(&self) -> Option<impl Iterator<Item = Control> + use<>> {
        loop {
            let PendingControls {
                interval,
                pause,
                scope: look,
                is_ended: is_end,
            } = self.take();
            if is_end {
                return None;
            }
            if interval.is_some() || pause.is_some() || look.is_some() {
                let first = interval.map(Control::Interval).into_iter();
                let then = pause.map(Control::Pause).into_iter();
                return Some(first.chain(then).chain(look.map(Control::SelectScope)));
            }
            self.0.arrived.notified().await;
        }
    }

    fn take(&self) -> PendingControls {
        let pending = self.0.pending.lock();
        std::mem::take(&mut *pending.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Receives readings.
pub trait TopOutput {
    /// Receives a periodic reading.
    fn send_reading(&mut self, reading: Box<TopReading>);

    /// Receives the first reading of a new scope: later histograms are differences to its histograms.
    fn send_histograms(&mut self, reading: Box<TopReading>);
}

/// Measures for a time, or until SIGINT or SIGTERM, and reads all exits once.
///
/// # Errors
/// When the kernel cannot be read.
pub async fn read_once(live: &mut Live, duration: Duration) -> anyhow::Result<TopReading> {
    let [mut interrupt, mut terminate] = termination_signals()?;
    let mut refresh = interval_timer(REFRESH_PERIOD);
    let notifications = ThreadNotifications::new(live.notifications_fd()?)?;
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
    read_exits(live, Scope::default(), &mut HashSet::new())
}

/// Reads all exits and the histograms of a scope. `named` has the keys that have been sent with a name.
fn read_exits(
    live: &mut Live,
    scope: Scope,
    named: &mut HashSet<Key>,
) -> anyhow::Result<TopReading> {
    let pairing = live.options().timing.as_ref();
    let counted = pairing.and_then(|it| it.counted_event.as_ref());
    let mut reading = TopReading::new(scope, counted.map(|it| &it.kind));
    let rest = live.read_exits(&mut |exits| reading.add(exits))?;
    let mut reading = reading.finish(rest);
    let vm_name = |tgid| live.names().find_name(tgid).map(str::to_owned);
    if let Some(pairing) = &live.options().timing {
        reading.add_names(named, &KeyNames::new(pairing), &vm_name);
    }
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
    named_keys: HashSet<Key>,
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
            live,
            controls,
            output,
            interval: interval_timer(interval),
            // A deadline that overflows the clock means no limit.
            deadline: duration.and_then(|it| Instant::now().checked_add(it)),
            scope: Scope::default(),
            paused: false,
            named_keys: HashSet::new(),
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
                let reading = read_exits(&mut self.live, self.scope, &mut self.named_keys)?;
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
        let reading = read_exits(&mut self.live, self.scope, &mut self.named_keys)?;
        self.output.send_reading(Box::new(reading));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_control_of_each_kind_arrives() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let controls = ControlQueue::default();
        let scope = Scope::default();
        for number in 1..1000 {
            controls.send(Control::Interval(Duration::from_secs(number)));
            controls.send(Control::Pause(number % 2 == 0));
            controls.send(Control::SelectScope(scope.next_grouping()));
            controls.send(Control::SelectScope(scope));
        }
        let arrived = runtime.block_on(controls.next()).expect("no end");
        assert_eq!(
            arrived.collect::<Vec<_>>(),
            [
                Control::Interval(Duration::from_secs(999)),
                Control::Pause(false),
                Control::SelectScope(scope)
            ]
        );
        controls.send(Control::Pause(true));
        controls.end();
        assert!(runtime.block_on(controls.next()).is_none());
    }
}
