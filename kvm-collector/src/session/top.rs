//! Reading the running kernel's exits for a screen, as often as the screen requests.

use std::{collections::HashSet, io, time::Duration};

use kvm_ebpf_common::Key;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::UnboundedReceiver,
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
                live.learn()?;
            }
            _ = refresh.tick() => live.look_around()?,
        }
    }
    live.end()?;
    read(live, Scope::default(), &mut HashSet::new())
}

/// Reads all exits, with the histograms of a scope. `named` are the keys that have been named before.
fn read(live: &mut Live, scope: Scope, named: &mut HashSet<Key>) -> anyhow::Result<TopReading> {
    let pairing = live.options().pairing.as_ref();
    let counted = pairing.and_then(|it| it.counted.as_ref());
    let mut reading = TopReading::new(scope, counted.map(|it| &it.kind));
    let rest = live.exits(&mut |exits| reading.add(exits))?;
    let mut reading = reading.finish(rest);
    let vm_name = |tgid| live.names().known(tgid).map(str::to_owned);
    if let Some(pairing) = &live.options().pairing {
        reading.name(named, &KeyNames::of(pairing), &vm_name);
    }
    Ok(reading)
}

/// What reads from the kernel, in a thread of its own: keys never wait for it.
#[derive(Debug)]
pub struct TopSource<O> {
    live: Live,
    controls: UnboundedReceiver<Control>,
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
        controls: UnboundedReceiver<Control>,
        output: O,
    ) -> io::Result<Self> {
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
            signals: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
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
                control = self.controls.recv() => match control {
                    Some(control) => self.control(control)?,
                    None => return Ok(()),
                },
                _ = self.interval.tick(), if !self.paused => self.read()?,
                due = notices.come() => {
                    due?;
                    self.live.learn()?;
                }
                _ = refresh.tick() => self.live.look_around()?,
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
