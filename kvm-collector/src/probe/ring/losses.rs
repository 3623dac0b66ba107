//! Determines when each CPU lost records.

/// Records of one CPU that did not fit into its ring.
///
/// They were lost between two polls of the ring. A program counts a lost record after the event, and before any later
/// record of the CPU. So records of this CPU, or of a thread that runs there, are older than the lost ones if their time is
/// before `from_ns`, and newer if it is after `to_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLoss {
    /// The CPU.
    pub cpu: u32,
    /// Number of lost records.
    pub count: u64,
    /// Start of the previous poll, which did not see this loss yet. In ns of `CLOCK_MONOTONIC`.
    pub from_ns: u64,
    /// Time after the poll that saw the loss. In ns of `CLOCK_MONOTONIC`.
    pub to_ns: u64,
}

/// Finds losses by comparing the counter of each CPU with its value at the previous poll.
#[derive(Debug)]
pub(super) struct LossTracker {
    cpus: Vec<CpuLosses>,
    /// Start of the latest poll.
    from_ns: u64,
}

/// The losses of one CPU.
#[derive(Debug, Clone, Copy, Default)]
struct CpuLosses {
    /// Value of the counter at the latest poll.
    seen: u64,
    /// A loss that was not taken yet. Losses of several polls are merged, so that memory stays bounded.
    found: Option<RingLoss>,
}

impl LossTracker {
    /// Creates a tracker, before any CPU writes a record.
    pub(super) fn new(cpus: usize, now_ns: u64) -> Self {
        Self {
            cpus: vec![CpuLosses::default(); cpus],
            from_ns: now_ns,
        }
    }

    /// Records the losses that a poll sees, which started at `start_ns`. `lost` reads the counter of a CPU, `now_ns` the
    /// clock.
    pub(super) fn update(
        &mut self,
        start_ns: u64,
        lost: impl Fn(usize) -> u64,
        now_ns: impl Fn() -> u64,
    ) {
        for (cpu, losses) in self.cpus.iter_mut().enumerate() {
            let lost = lost(cpu);
            if lost == losses.seen {
                continue;
            }
            let loss = losses.found.get_or_insert(RingLoss {
                cpu: u32::try_from(cpu).unwrap_or(u32::MAX),
                count: 0,
                from_ns: self.from_ns,
                to_ns: 0,
            });
            loss.count += lost.wrapping_sub(losses.seen);
            loss.to_ns = now_ns();
            losses.seen = lost;
        }
        self.from_ns = start_ns;
    }

    /// Returns the start of the latest poll.
    pub(super) fn latest_poll_ns(&self) -> u64 {
        self.from_ns
    }

    /// Takes the losses that were found since the latest call.
    pub(super) fn take(&mut self) -> impl Iterator<Item = RingLoss> {
        self.cpus
            .iter_mut()
            .filter_map(|losses| losses.found.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(losses: &mut LossTracker) -> Vec<(u32, u64, u64, u64)> {
        losses
            .take()
            .map(|loss| (loss.cpu, loss.count, loss.from_ns, loss.to_ns))
            .collect()
    }

    #[test]
    fn a_loss_is_between_two_polls() {
        let mut losses = LossTracker::new(3, 100);
        losses.update(200, |_| 0, || 210);
        assert_eq!(found(&mut losses), []);
        losses.update(300, |cpu| [0, 5, 0][cpu], || 310);
        assert_eq!(found(&mut losses), [(1, 5, 200, 310)]);
        losses.update(400, |cpu| [1, 7, 0][cpu], || 410);
        assert_eq!(found(&mut losses), [(0, 1, 300, 410), (1, 2, 300, 410)]);
        losses.update(500, |cpu| [1, 7, 0][cpu], || 510);
        assert_eq!(found(&mut losses), []);
    }

    #[test]
    fn a_loss_before_the_first_poll_starts_with_the_rings() {
        let mut losses = LossTracker::new(1, 100);
        losses.update(200, |_| 1, || 210);
        assert_eq!(found(&mut losses), [(0, 1, 100, 210)]);
    }

    #[test]
    fn losses_that_are_not_taken_are_merged() {
        let mut losses = LossTracker::new(1, 100);
        losses.update(200, |_| 1, || 210);
        losses.update(300, |_| 3, || 310);
        losses.update(400, |_| 3, || 410);
        assert_eq!(found(&mut losses), [(0, 3, 100, 310)]);
    }
}
