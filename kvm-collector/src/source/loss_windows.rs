//! Times in which events were lost, somewhere between their ends.
//!
//! Within such a time any two events of a thread may have had others between them. So a mark stands before each event
//! until it is over, and nothing is taken to reach from one event to the next.

/// CPUs that are told apart. A file may name any.
const MOST_CPUS: usize = 4096;

/// The CPUs that lost events in a time that has not ended yet.
#[derive(Debug, Default)]
pub(super) struct LossWindows {
    /// CPU and end; of each CPU one. `None`: any CPU.
    open: Vec<(Option<u32>, u64)>,
}

impl LossWindows {
    /// A time begins in which a CPU lost events.
    pub(super) fn begin(&mut self, cpu: u32, to_ns: u64) {
        let open = &mut self.open;
        let is_known = open.iter().any(|it| it.0 == Some(cpu));
        let cpu = Some(cpu).filter(|_| is_known || open.len() < MOST_CPUS);
        match open.iter_mut().find(|it| it.0 == cpu) {
            Some(known) => known.1 = known.1.max(to_ns),
            None => open.push((cpu, to_ns)),
        }
    }

    /// Has no CPU lost events around now?
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The CPUs to mark before an event at a time; `None` marks all. Times that are over by then are marked for the last time.
    pub(super) fn before(&mut self, time_ns: u64) -> Vec<Option<u32>> {
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
        let (both, third) = ([Some(2), Some(3)], [Some(3)]);
        assert_eq!(windows.before(15), both);
        assert_eq!(windows.before(20), both);
        assert_eq!(windows.before(21), both);
        assert_eq!(windows.before(22), third);
        assert_eq!(windows.before(50), third);
        assert!(windows.is_empty());
    }

    #[test]
    fn a_cpu_has_one_time_at_once_and_of_too_many_any_may_be_the_one() {
        let mut windows = LossWindows::default();
        windows.begin(2, 40);
        windows.begin(2, 20);
        assert_eq!(windows.before(30), [Some(2)]);
        for cpu in 0..100_000 {
            windows.begin(cpu, 60);
        }
        let marked = windows.before(50);
        assert_eq!(marked.len(), MOST_CPUS + 1);
        assert_eq!(marked.last(), Some(&None));
    }
}
