//! Times in which events were lost, somewhere between their ends.
//!
//! Within such a time any two events of a thread may have had others between them. So a mark stands before each event
//! until it is over, and nothing is taken to reach from one event to the next.

/// The CPUs that lost events in a time that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct LossWindows {
    /// CPU and end.
    open: Vec<(u32, u64)>,
}

impl LossWindows {
    /// A time begins in which a CPU lost events.
    pub(super) fn begin(&mut self, cpu: u32, to_ns: u64) {
        self.open.push((cpu, to_ns));
    }

    /// Has no CPU lost events around now?
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The CPUs to mark before an event at a time. Times that are over by then are marked for the last time.
    pub(super) fn before(&mut self, time_ns: u64) -> Vec<u32> {
        let cpus = self.open.iter().map(|it| it.0).collect();
        self.open.retain(|(_, to_ns)| *to_ns >= time_ns);
        cpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_marked_until_one_is_behind_the_end() {
        let mut windows = LossWindows::default();
        windows.begin(2, 20);
        windows.begin(3, 40);
        assert_eq!(windows.before(15), [2, 3]);
        assert_eq!(windows.before(20), [2, 3]);
        assert_eq!(windows.before(21), [2, 3]);
        assert_eq!(windows.before(22), [3]);
        assert_eq!(windows.before(50), [3]);
        assert!(windows.is_empty());
    }
}
