//! Warnings of one kind, of which there can be thousands.

/// How many warnings of a kind are printed.
const MAX_PRINTED: u64 = 3;

/// Prints the first warnings of a kind, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    count: u64,
}

impl Warnings {
    /// Prints a warning, if there were few before.
    pub(super) fn warn(&mut self, message: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= MAX_PRINTED {
            log::warn!("{}", message());
        }
    }

    /// Returns the number of warnings so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Says how many warnings were not printed, with a message about their number.
    pub(super) fn finish(self, message: impl FnOnce(u64) -> String) {
        if self.count > MAX_PRINTED {
            log::warn!("{}", message(self.count - MAX_PRINTED));
        }
    }
}
