//! Where a vCPU's time went, by clocks that have nothing to do with KVM's events: what measurements of those are checked against.

use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Where the time of a vCPU's thread went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// From just before the first `KVM_RUN` to the return of the last, by `CLOCK_MONOTONIC`.
    pub elapsed_ns: u64,
    /// Of that, in user space: from each return of `KVM_RUN` to the next call, asleep or not. After the last there is none.
    pub userspace_ns: u64,
    /// From a return of `KVM_RUN` to the next: the median of the first 4,096, which does not see that something else came in
    /// between here and there; `None` if it returned once only.
    pub between_returns_ns: Option<u64>,
    /// Of `elapsed_ns`, on a CPU: by the thread's own clock, and so with the time in the guest.
    pub cpu_ns: u64,
    /// Of `elapsed_ns`, runnable but without a CPU, by `/proc/PID/task/TID/schedstat`; `None` where the kernel keeps none.
    ///
    /// What is left of `elapsed_ns` after this and `cpu_ns`, the thread was blocked: asleep in user space, or halted in the kernel.
    pub runqueue_ns: Option<u64>,
    /// How often it came onto a CPU in that time, by the same file.
    pub switches_in: Option<u64>,
}

/// How many times between returns are kept, to find their median.
const KEPT: usize = 4096;

/// Measures [`Times`] of the thread that it is used in.
#[derive(Debug)]
pub(super) struct Stopwatch {
    began: Instant,
    cpu: Duration,
    sched: Option<Sched>,
    /// When `KVM_RUN` last returned.
    returned: Option<Instant>,
    userspace: Duration,
    /// From a return to the next. Its memory is there before the first.
    between: Vec<Duration>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        let (sched, cpu) = (Sched::read(), cpu());
        Self {
            began: Instant::now(),
            cpu,
            sched,
            returned: None,
            userspace: Duration::ZERO,
            between: Vec::with_capacity(KEPT),
        }
    }

    /// To be called just before `KVM_RUN`.
    pub(super) fn entering(&mut self) {
        if let Some(returned) = self.returned {
            self.userspace += returned.elapsed();
        }
    }

    /// To be called as soon as `KVM_RUN` has returned.
    pub(super) fn returned(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.returned
            && self.between.len() < KEPT
        {
            self.between.push(now - last);
        }
        self.returned = Some(now);
    }

    pub(super) fn stop(mut self) -> Times {
        let end = self.returned.unwrap_or(self.began);
        let sched = Sched::read().zip(self.sched);
        Times {
            elapsed_ns: nanos(end - self.began),
            userspace_ns: nanos(self.userspace),
            between_returns_ns: median(&mut self.between).map(nanos),
            cpu_ns: nanos(cpu().saturating_sub(self.cpu)),
            runqueue_ns: sched.map(|(now, began)| now.waited_ns.saturating_sub(began.waited_ns)),
            switches_in: sched
                .map(|(now, began)| now.switches_in.saturating_sub(began.switches_in)),
        }
    }
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn cpu() -> Duration {
    // The clock of the calling thread is always there, and never negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// What the scheduler says of this thread's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sched {
    waited_ns: u64,
    switches_in: u64,
}

impl Sched {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    /// `ON_CPU WAITED TIMES_ON_CPU`, the first two in ns. A kernel that was told not to count (`nosched_schedstats`) has zeros
    /// all over.
    fn parse(schedstat: &str) -> Option<Self> {
        let mut numbers = schedstat
            .split_whitespace()
            .map_while(|it| it.parse::<u64>().ok());
        let (_, waited_ns, switches_in) = (numbers.next()?, numbers.next()?, numbers.next()?);
        (switches_in > 0).then_some(Self {
            waited_ns,
            switches_in,
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn only_time_between_two_runs_is_user_spaces() {
        let mut watch = Stopwatch::start();
        watch.entering();
        sleep(Duration::from_millis(20)); // as if in the guest
        watch.returned();
        sleep(Duration::from_millis(5)); // in user space
        watch.entering();
        watch.returned();
        sleep(Duration::from_millis(20)); // after the last return
        let times = watch.stop();
        assert!(times.userspace_ns >= 5_000_000, "{times:?}");
        // Neither of the other sleeps is in it: one is in the rest, one in nothing at all.
        assert!(
            times.elapsed_ns - times.userspace_ns >= 20_000_000,
            "{times:?}"
        );
        // 5 ms, of which the second run took nothing.
        let between_ns = times.between_returns_ns.expect("two returns");
        assert!(
            between_ns >= times.userspace_ns && between_ns < times.elapsed_ns,
            "{times:?}"
        );
        // It slept nearly all the time.
        assert!(times.cpu_ns < times.elapsed_ns, "{times:?}");
    }

    #[test]
    fn a_median_is_what_most_are() {
        let ms = Duration::from_millis;
        assert_eq!(
            median(&mut [ms(1), ms(90), ms(1), ms(2), ms(3)]),
            Some(ms(2))
        );
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn schedstat_says_what_was_waited_and_how_often_it_ran() {
        let sched = Sched {
            waited_ns: 20,
            switches_in: 3,
        };
        assert_eq!(Sched::parse("1500 20 3\n"), Some(sched));
        assert_eq!(Sched::parse("0 0 0\n"), None);
        assert_eq!(Sched::parse(""), None);
    }
}
