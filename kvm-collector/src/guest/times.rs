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
    /// Of `elapsed_ns`, on a CPU: by the thread's own clock, and so with the time in the guest.
    pub cpu_ns: u64,
    /// Of `elapsed_ns`, runnable but without a CPU, by `/proc/PID/task/TID/schedstat`; `None` where the kernel keeps none.
    ///
    /// What is left of `elapsed_ns` after this and `cpu_ns`, the thread was blocked: asleep in user space, or halted in the kernel.
    pub runqueue_ns: Option<u64>,
    /// How often it came onto a CPU in that time, by the same file.
    pub switches_in: Option<u64>,
}

/// Measures [`Times`] of the thread that it is used in.
#[derive(Debug)]
pub(super) struct Stopwatch {
    began: Instant,
    cpu: Duration,
    sched: Option<Sched>,
    /// When `KVM_RUN` last returned.
    returned: Option<Instant>,
    userspace: Duration,
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
        self.returned = Some(Instant::now());
    }

    pub(super) fn stop(self) -> Times {
        let end = self.returned.unwrap_or(self.began);
        let sched = Sched::read().zip(self.sched);
        Times {
            elapsed_ns: nanos(end - self.began),
            userspace_ns: nanos(self.userspace),
            cpu_ns: nanos(cpu().saturating_sub(self.cpu)),
            runqueue_ns: sched.map(|(now, began)| now.waited_ns.saturating_sub(began.waited_ns)),
            switches_in: sched
                .map(|(now, began)| now.switches_in.saturating_sub(began.switches_in)),
        }
    }
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
        // It slept nearly all the time.
        assert!(times.cpu_ns < times.elapsed_ns, "{times:?}");
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
