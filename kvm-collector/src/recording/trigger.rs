//! When the flight recorder writes: `exit > 1ms`.

use std::{collections::HashMap, time::Duration};

use crate::{probe::Record, tracefs::Format};

/// Threads in an exit that are kept in mind at most; there are no more vCPUs on a host.
const MOST_OPEN: usize = 1 << 16;

/// An exit that takes longer than a time.
#[derive(Debug, Clone)]
pub struct Trigger {
    above_ns: u64,
    exit_slot: usize,
    entry_slot: usize,
    /// When each thread left its guest.
    open: HashMap<u32, u64>,
}

impl Trigger {
    /// How long an exit has to take, from words such as `exit > 1ms`.
    ///
    /// # Errors
    /// What was expected, in words.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let expected = || format!("expected `exit > TIME`, such as `exit > 1ms`, not `{text}`");
        let rest = text.trim().strip_prefix("exit").ok_or_else(expected)?;
        let time = rest.trim_start().strip_prefix('>').ok_or_else(expected)?;
        humantime::parse_duration(time.trim()).map_err(|error| format!("{}: {error}", expected()))
    }

    /// A trigger among events of these formats; none if it needs an event that is not among them.
    #[must_use]
    pub fn new(above: Duration, formats: &[Format]) -> Option<Self> {
        let slot = |name: &str| formats.iter().position(|it| it.is("kvm", name));
        Some(Self {
            above_ns: u64::try_from(above.as_nanos()).unwrap_or(u64::MAX),
            exit_slot: slot("kvm_exit")?,
            entry_slot: slot("kvm_entry")?,
            open: HashMap::new(),
        })
    }

    /// Takes an event: is it the end of such an exit?
    pub(super) fn event(&mut self, record: &Record<'_>) -> bool {
        let header = &record.header;
        let slot = usize::from(header.slot);
        if slot == self.exit_slot {
            if self.open.len() >= MOST_OPEN {
                self.open.clear();
            }
            self.open.insert(header.tid, header.time_ns);
            return false;
        }
        slot == self.entry_slot
            && self
                .open
                .remove(&header.tid)
                .is_some_and(|exit_ns| header.time_ns.saturating_sub(exit_ns) > self.above_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_an_exit_longer_than_a_time() {
        assert_eq!(Trigger::parse("exit > 1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(Trigger::parse(" exit>50us "), Ok(Duration::from_micros(50)));
        for text in ["", "exit", "exit 1ms", "entry > 1ms", "exit > soon"] {
            let error = Trigger::parse(text).unwrap_err();
            assert!(error.contains("`exit > 1ms`"), "{error}");
        }
    }
}
