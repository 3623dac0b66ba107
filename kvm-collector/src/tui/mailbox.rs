//! What has happened and the screen does not know yet. It takes little memory, however long the terminal takes nothing:
//! of readings only the newest is stored, and input waits in the terminal.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use ratatui::crossterm::event::Event;

use crate::view::PendingReadings;

/// How many keys are stored at most.
const MAX_INPUT: usize = 256;

/// What can happen.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Somebody did something at the terminal.
    pub(super) input: Vec<Event>,
    /// The source has read.
    pub(super) readings: PendingReadings,
    /// It is over.
    pub(super) is_ended: bool,
}

impl Mail {
    fn is_empty(&self) -> bool {
        self.input.is_empty() && self.readings.is_empty() && !self.is_ended
    }
}

/// Passes on what happens to the thread that shows it.
#[derive(Debug, Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    arrived: Condvar,
    input_taken: Condvar,
}

impl Mailbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        // Every change is complete, whatever panics.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what somebody did at the terminal. Waits while there is much of it.
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

    /// Adds readings. Never waits.
    pub fn add_readings(&self, add: impl FnOnce(&mut PendingReadings)) {
        add(&mut self.mail().readings);
        self.arrived.notify_one();
    }

    /// Says that it is over. Never waits.
    pub fn end(&self) {
        self.mail().is_ended = true;
        self.arrived.notify_one();
    }

    /// Waits until something has happened.
    pub(super) fn take(&self) -> Mail {
        let mut mail = self.mail();
        while mail.is_empty() {
            mail = self
                .arrived
                .wait(mail)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.input_taken.notify_one();
        mem::take(&mut *mail)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::*;
    use crate::view::{TopReading, PendingReading};

    fn reading(time_ns: u64) -> Box<TopReading> {
        let mut reading = Box::<TopReading>::default();
        reading.time_ns = time_ns;
        reading
    }

    #[test]
    fn however_much_happens_the_newest_and_the_end_arrive() {
        let mailbox = Mailbox::default();
        for time_ns in 1..10_000 {
            mailbox.add_readings(|it| it.add_reading(reading(time_ns)));
        }
        mailbox.end();
        let mail = mailbox.take();
        assert!(mail.is_ended);
        let times = mail.readings.into_iter().map(|unread| match unread {
            PendingReading::Reading(reading) => reading.time_ns,
            PendingReading::Histograms(_) => 0,
        });
        assert_eq!(times.collect::<Vec<_>>(), [9999]);
    }

    #[test]
    fn input_waits_while_nobody_takes_it() {
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
        // The end does not wait for it.
        mailbox.end();
        let mut all = Vec::new();
        while all.len() < 1000 {
            all.extend(mailbox.take().input);
        }
        typing.join().unwrap();
        let expected: Vec<_> = (0..1000).map(|it| Event::Resize(it, 1)).collect();
        assert_eq!(all, expected);
    }
}
