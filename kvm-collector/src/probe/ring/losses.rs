//! When each CPU lost records.

/// Records of one CPU that the eBPF programs could not put into its ring.
///
/// They were lost between two looks at the ring: a program counts a record as lost after the event, before any later
/// record of the CPU. So every record of this CPU, or of a thread that runs there, with an earlier time than `from_ns`
/// comes before them, and with a later time than `to_ns` after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLoss {
    /// The CPU.
    pub cpu: u32,
    /// How many records were lost.
    pub count: u64,
    /// `CLOCK_MONOTONIC` before the previous look, which did not see this loss yet.
    pub from_ns: u64,
    /// `CLOCK_MONOTONIC` after the look that saw it.
    pub to_ns: u64,
}

/// Compares how much every CPU has lost with what the look before saw.
#[derive(Debug)]
pub(super) struct LossTracker {
    cpus: Vec<CpuLosses>,
    /// When the last look began.
    from_ns: u64,
}

/// What one CPU has lost.
#[derive(Debug, Clone, Copy, Default)]
struct CpuLosses {
    /// How much at the last look.
    seen: u64,
    /// What nobody has received yet. Losses of several looks become one, so that this takes no more memory when nobody
    /// receives them.
    found: Option<RingLoss>,
}

impl LossTracker {
    /// For so many CPUs, before any of them writes a record.
    pub(super) fn new(cpus: usize, now_ns: u64) -> Self {
        Self {
            cpus: vec![CpuLosses::default(); cpus],
            from_ns: now_ns,
        }
    }

    /// Compares with a look that began at a time. `lost` reads how much a CPU has lost, `now_ns` the clock.
    pub(super) fn look(
        &mut self,
        began_ns: u64,
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
        self.from_ns = began_ns;
    }

    /// When the last look began.
    pub(super) fn looked_ns(&self) -> u64 {
        self.from_ns
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = RingLoss> {
        self.cpus.iter_mut().filter_map(|it| it.found.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(losses: &mut LossTracker) -> Vec<(u32, u64, u64, u64)> {
        losses
            .take()
            .map(|it| (it.cpu, it.count, it.from_ns, it.to_ns))
            .collect()
    }

    #[test]
    fn a_loss_is_between_the_look_before_and_the_one_that_sees_it() {
        let mut losses = LossTracker::new(3, 100);
        losses.look(200, |_| 0, || 210);
        assert_eq!(found(&mut losses), []);
        losses.look(300, |cpu| [0, 5, 0][cpu], || 310);
        assert_eq!(found(&mut losses), [(1, 5, 200, 310)]);
        losses.look(400, |cpu| [1, 7, 0][cpu], || 410);
        assert_eq!(found(&mut losses), [(0, 1, 300, 410), (1, 2, 300, 410)]);
        losses.look(500, |cpu| [1, 7, 0][cpu], || 510);
        assert_eq!(found(&mut losses), []);
    }

    #[test]
    fn a_loss_before_the_first_look_is_since_the_rings_were_made() {
        let mut losses = LossTracker::new(1, 100);
        losses.look(200, |_| 1, || 210);
        assert_eq!(found(&mut losses), [(0, 1, 100, 210)]);
    }

    #[test]
    fn losses_that_nobody_receives_become_one() {
        let mut losses = LossTracker::new(1, 100);
        losses.look(200, |_| 1, || 210);
        losses.look(300, |_| 3, || 310);
        losses.look(400, |_| 3, || 410);
        assert_eq!(found(&mut losses), [(0, 3, 100, 310)]);
    }
}
