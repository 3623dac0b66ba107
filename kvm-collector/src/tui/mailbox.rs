//! Passes input and readings to the thread that draws.
//!
//! The memory is bounded even if the terminal accepts no output for a long time: only the newest reading
//! is stored, and excess input stays in the terminal.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use ratatui::crossterm::event::Event;

use crate::view::PendingReadings;

/// Maximum number of stored input events.
const MAX_INPUT: usize = 256;

/// Events that the drawing thread has not handled yet.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Input events of the terminal.
    pub(super) input: Vec<Event>,
    /// Readings from the kernel.
    pub(super) readings: PendingReadings,
    /// There will be no more readings.
    pub(super) is_source_ended: bool,
    /// The screen must end.
    pub(super) is_ended: bool,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.input.is_empty() && self.readings.is_empty() && !self.is_source_ended && !self.is_ended
    }
}

/// Passes input and readings to the thread that draws.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
    input_taken: Condvar,
}

impl Mailbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        // The contents are consistent even if a thread panicked while it held the lock.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an input event. Blocks while [`MAX_INPUT`] events are stored.
    pub(super) fn add_input(&self, event: Event) {
        let mut mail = self.mail();
        while mail.input.len() >= MAX_INPUT {
            mail = self
                .input_taken
                .wait(mail)
                .unwrap_or_else(PoisonError::into_inner);
        }
        mail.input.push(event);
        self.arrived.notify_one();
    }

    /// Adds readings. Does not block.
    pub fn add_readings(&self, add: impl FnOnce(&mut PendingReadings)) {
        add(&mut self.mail().readings);
        self.arrived.notify_one();
    }

    /// Reports that there will be no more readings. Does not block.
    pub fn end_source(&self) {
        self.mail().is_source_ended = true;
        self.arrived.notify_one();
    }

    /// Ends the screen. Does not block.
    pub fn end(&self) {
        self.mail().is_ended = true;
        self.arrived.notify_one();
    }

    /// Waits until there is something, and takes all of it. Returns `None` at the time `until`.
    pub(super) fn take(&self, until: Option<Instant>) -> Option<Mail> {
        let mut mail = self.mail();
        while mail.is_empty() {
            mail = match until {
                None => self
                    .arrived
                    .wait(mail)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.checked_duration_since(Instant::now())?;
                    let waited = self.arrived.wait_timeout(mail, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        self.input_taken.notify_one();
        Some(mem::take(&mut *mail))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::*;
    use crate::view::{PendingReading, TopReading};

    fn reading(time_ns: u64) -> Box<TopReading> {
        let mut reading = Box::<TopReading>::default();
        reading.time_ns = time_ns;
        reading
    }

    #[test]
    fn the_newest_reading_and_the_end_arrive() {
        let mailbox = Mailbox::default();
        for time_ns in 1..10_000 {
            mailbox.add_readings(|it| it.add_reading(reading(time_ns)));
        }
        mailbox.end();
        let mail = mailbox.take(None).unwrap();
        assert!(mail.is_ended);
        let times = mail.readings.into_iter().map(|pending| match pending {
            PendingReading::Reading(reading) => reading.time_ns,
            PendingReading::Histograms(_) => 0,
        });
        assert_eq!(times.collect::<Vec<_>>(), [9999]);
    }

    #[test]
    fn waiting_ends_at_the_time_limit() {
        let mailbox = Mailbox::default();
        let limit = Instant::now() + Duration::from_millis(20);
        assert!(mailbox.take(Some(limit)).is_none());
        assert!(Instant::now() >= limit);
        mailbox.end_source();
        let mail = mailbox.take(Some(limit)).expect("the end of the source");
        assert!(mail.is_source_ended && !mail.is_ended);
    }

    #[test]
    fn adding_input_blocks_while_the_mailbox_is_full() {
        let mailbox = Arc::new(Mailbox::default());
        let typing = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || {
                for number in 0..1000 {
                    mailbox.add_input(Event::Resize(number, 1));
                }
            })
        };
        thread::sleep(Duration::from_millis(50));
        assert!(mailbox.mail().input.len() <= MAX_INPUT);
        // `end` does not block.
        mailbox.end();
        let mut all = Vec::new();
        while all.len() < 1000 {
            all.extend(mailbox.take(None).unwrap().input);
        }
        typing.join().unwrap();
        let expected: Vec<_> = (0..1000).map(|it| Event::Resize(it, 1)).collect();
        assert_eq!(all, expected);
    }
}
