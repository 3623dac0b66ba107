//! Time windows in which CPUs lost events.
//!
//! When exactly the events were lost is unknown. Within a window, events may be missing between any
//! two events of a thread. A loss is therefore emitted before each event of the window, so that no
//! exit spans two events.

/// Maximum number of CPUs with a window of their own. A damaged file may name any number of CPUs.
const MAX_CPUS: usize = 4096;

/// The windows that have not ended.
#[derive(Debug, Default)]
pub(super) struct LossWindows {
    /// CPU and end of each window, one for each CPU. `None` stands for all CPUs.
    open: Vec<(Option<u32>, u64)>,
}

impl LossWindows {
    /// Adds a window that starts now and ends at `to_ns`.
    pub(super) fn add(&mut self, cpu: u32, to_ns: u64) {
        let open = &mut self.open;
        let is_known = open.iter().any(|it| it.0 == Some(cpu));
        let cpu = Some(cpu).filter(|_| is_known || open.len() < MAX_CPUS);
        match open.iter_mut().find(|it| it.0 == cpu) {
            Some(known) => known.1 = known.1.max(to_ns),
            None => open.push((cpu, to_ns)),
        }
    }

    /// Returns whether there is no window at the current time.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the CPUs that may have lost events before an event at `time_ns`; `None` stands for
    /// all CPUs. Removes windows that end before that event.
    pub(super) fn cpus_before(&mut self, time_ns: u64) -> Vec<Option<u32>> {
        let cpus = self.open.iter().map(|it| it.0).collect();
        self.open.retain(|(_, to_ns)| *to_ns >= time_ns);
        cpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_reported_up_to_the_first_event_after_the_window() {
        let mut windows = LossWindows::default();
        windows.add(2, 20);
        windows.add(3, 40);
        let (both, third) = ([Some(2), Some(3)], [Some(3)]);
        assert_eq!(windows.cpus_before(15), both);
        assert_eq!(windows.cpus_before(20), both);
        assert_eq!(windows.cpus_before(21), both);
        assert_eq!(windows.cpus_before(22), third);
        assert_eq!(windows.cpus_before(50), third);
        assert!(windows.is_empty());
    }

    #[test]
    fn windows_of_one_cpu_are_merged_and_excess_cpus_share_one() {
        let mut windows = LossWindows::default();
        windows.add(2, 40);
        windows.add(2, 20);
        assert_eq!(windows.cpus_before(30), [Some(2)]);
        for cpu in 0..100_000 {
            windows.add(cpu, 60);
        }
        let marked = windows.cpus_before(50);
        assert_eq!(marked.len(), MAX_CPUS + 1);
        assert_eq!(marked.last(), Some(&None));
    }
}
