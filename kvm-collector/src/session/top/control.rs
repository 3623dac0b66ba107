//! Requests of the screen to the source of readings.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::view::Scope;

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
    pub(super) async fn next(&self) -> Option<impl Iterator<Item = Control> + use<>> {
        loop {
            let PendingControls {
                interval,
                pause,
                scope,
                is_ended,
            } = self.take();
            if is_ended {
                return None;
            }
            if interval.is_some() || pause.is_some() || scope.is_some() {
                let first = interval.map(Control::Interval).into_iter();
                let then = pause.map(Control::Pause).into_iter();
                return Some(first.chain(then).chain(scope.map(Control::SelectScope)));
            }
            self.0.arrived.notified().await;
        }
    }

    fn take(&self) -> PendingControls {
        let pending = self.0.pending.lock();
        std::mem::take(&mut *pending.unwrap_or_else(PoisonError::into_inner))
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
