//! Reading the running kernel's exits for a screen, as often as the screen requests.

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

use super::{REFRESH_PERIOD, ThreadNotices, every, of_end, until};
use crate::{
    source::Live,
    view::{KeyNames, Scope, TopReading},
};

/// What a screen requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Histograms of this, from now on.
    Look(Scope),
    /// So much time between two readings.
    Interval(Duration),
    /// No readings; or readings again, the first one now.
    Pause(bool),
}

/// Passes controls on to the source. One that has not been taken is replaced by a newer one of its sort: only the last
/// matters.
#[derive(Debug, Clone, Default)]
pub struct Controls(Arc<SharedControls>);

#[derive(Debug, Default)]
struct SharedControls {
    untaken: Mutex<UntakenControls>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct UntakenControls {
    interval: Option<Duration>,
    pause: Option<bool>,
    look: Option<Scope>,
    is_end: bool,
}

impl Controls {
    fn change(&self, change: impl FnOnce(&mut UntakenControls)) {
        let untaken = self.0.untaken.lock();
        change(&mut untaken.unwrap_or_else(PoisonError::into_inner));
        self.0.arrived.notify_one();
    }

    /// Passes one on.
    pub fn send(&self, control: Control) {
        self.change(|untaken| match control {
            Control::Look(scope) => untaken.look = Some(scope),
            Control::Interval(interval) => untaken.interval = Some(interval),
            Control::Pause(paused) => untaken.pause = Some(paused),
        });
    }

    /// Ends the source.
    pub fn end(&self) {
        self.change(|untaken| untaken.is_end = true);
    }

    /// Waits for the next ones; `None` when the source is to end.
    async fn next(&self) -> Option<impl Iterator<Item = Control> + use<>> {
        loop {
            let UntakenControls {
                interval,
                pause,
                look,
                is_end,
            } = self.take();
            if is_end {
                return None;
            }
            if interval.is_some() || pause.is_some() || look.is_some() {
                let first = interval.map(Control::Interval).into_iter();
                let then = pause.map(Control::Pause).into_iter();
                return Some(first.chain(then).chain(look.map(Control::Look)));
            }
            self.0.arrived.notified().await;
        }
    }

    fn take(&self) -> UntakenControls {
        let untaken = self.0.untaken.lock();
        std::mem::take(&mut *untaken.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where readings go.
pub trait TopOutput {
    /// Takes a reading.
    fn reading(&mut self, reading: Box<TopReading>);

    /// Takes a reading with histograms, from which the next ones count.
    fn histograms(&mut self, reading: Box<TopReading>);
}

/// Reads all exits after some time, or at Ctrl-C.
///
/// # Errors
/// When the kernel cannot be read.
pub async fn once(live: &mut Live, duration: Duration) -> anyhow::Result<TopReading> {
    let [mut interrupt, mut terminate] = of_end()?;
    let mut refresh = every(REFRESH_PERIOD);
    let notices = ThreadNotices::new(live.notices_fd()?)?;
    let end = sleep(duration);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            due = notices.come() => {
                due?;
                live.handle_notices()?;
            }
            _ = refresh.tick() => live.update_threads()?,
        }
    }
    live.stop()?;
    read(live, Scope::default(), &mut HashSet::new())
}

/// Reads all exits, with the histograms of a scope. `named` are the keys that have been named before.
fn read(live: &mut Live, scope: Scope, named: &mut HashSet<Key>) -> anyhow::Result<TopReading> {
    let pairing = live.options().timing.as_ref();
    let counted = pairing.and_then(|it| it.counted_event.as_ref());
    let mut reading = TopReading::new(scope, counted.map(|it| &it.kind));
    let rest = live.read_exits(&mut |exits| reading.add(exits))?;
    let mut reading = reading.finish(rest);
    let vm_name = |tgid| live.names().find_name(tgid).map(str::to_owned);
    if let Some(pairing) = &live.options().timing {
        reading.add_names(named, &KeyNames::of(pairing), &vm_name);
    }
    Ok(reading)
}

/// What reads from the kernel, in a thread of its own: keys never wait for it.
#[derive(Debug)]
pub struct TopSource<O> {
    live: Live,
    controls: Controls,
    output: O,
    interval: Interval,
    deadline: Option<Instant>,
    scope: Scope,
    paused: bool,
    named: HashSet<Key>,
    signals: [Signal; 3],
}

impl<O: TopOutput> TopSource<O> {
    /// Begins to listen to signals; to be called within a runtime, and before the terminal is taken: from here on a
    /// signal is an end that gives it back.
    ///
    /// # Errors
    /// When signals cannot be listened to.
    pub fn new(
        live: Live,
        interval: Duration,
        duration: Option<Duration>,
        controls: Controls,
        output: O,
    ) -> io::Result<Self> {
        let [interrupt, terminate] = of_end()?;
        Ok(Self {
            live,
            controls,
            output,
            interval: every(interval),
            // A time too long for the clock is no limit.
            deadline: duration.and_then(|it| Instant::now().checked_add(it)),
            scope: Scope::default(),
            paused: false,
            named: HashSet::new(),
            signals: [interrupt, terminate, signal(SignalKind::hangup())?],
        })
    }

    /// Reads until a signal, the end of the time, or until nobody requests anything any more.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut refresh = every(REFRESH_PERIOD);
        let notices = ThreadNotices::new(self.live.notices_fd()?)?;
        loop {
            let [interrupt, terminate, hangup] = &mut self.signals;
            tokio::select! {
                biased;
                _ = interrupt.recv() => return Ok(()),
                _ = terminate.recv() => return Ok(()),
                _ = hangup.recv() => return Ok(()),
                () = until(self.deadline) => return Ok(()),
                controls = self.controls.next() => {
                    let Some(controls) = controls else { return Ok(()) };
                    for control in controls {
                        self.control(control)?;
                    }
                }
                _ = self.interval.tick(), if !self.paused => self.read()?,
                due = notices.come() => {
                    due?;
                    self.live.handle_notices()?;
                }
                _ = refresh.tick() => self.live.update_threads()?,
            }
        }
    }

    fn control(&mut self, control: Control) -> anyhow::Result<()> {
        match control {
            Control::Look(scope) => {
                self.scope = scope;
                let reading = read(&mut self.live, self.scope, &mut self.named)?;
                self.output.histograms(Box::new(reading));
                Ok(())
            }
            Control::Interval(interval) => {
                self.interval = every(interval);
                Ok(())
            }
            Control::Pause(paused) => {
                self.paused = paused;
                if paused {
                    return Ok(());
                }
                self.interval.reset();
                self.read()
            }
        }
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let reading = read(&mut self.live, self.scope, &mut self.named)?;
        self.output.reading(Box::new(reading));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_sort_the_last_control_arrives() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let controls = Controls::default();
        let scope = Scope::default();
        for number in 1..1000 {
            controls.send(Control::Interval(Duration::from_secs(number)));
            controls.send(Control::Pause(number % 2 == 0));
            controls.send(Control::Look(scope.next_grouping()));
            controls.send(Control::Look(scope));
        }
        let arrived = runtime.block_on(controls.next()).expect("no end");
        assert_eq!(
            arrived.collect::<Vec<_>>(),
            [
                Control::Interval(Duration::from_secs(999)),
                Control::Pause(false),
                Control::Look(scope)
            ]
        );
        controls.send(Control::Pause(true));
        controls.end();
        assert!(runtime.block_on(controls.next()).is_none());
    }
}
