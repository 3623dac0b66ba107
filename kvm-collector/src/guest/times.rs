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
}

/// Measures [`Times`] of the thread that it is used in.
#[derive(Debug)]
pub(super) struct Stopwatch {
    began: Instant,
    cpu: Duration,
    runqueue: Option<u64>,
    /// When `KVM_RUN` last returned.
    returned: Option<Instant>,
    userspace: Duration,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        let (runqueue, cpu) = (runqueue_ns(), cpu());
        Self {
            began: Instant::now(),
            cpu,
            runqueue,
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
        let runqueue = |began| Some(runqueue_ns()?.saturating_sub(began));
        Times {
            elapsed_ns: nanos(end - self.began),
            userspace_ns: nanos(self.userspace),
            cpu_ns: nanos(cpu().saturating_sub(self.cpu)),
            runqueue_ns: self.runqueue.and_then(runqueue),
        }
    }
}

fn cpu() -> Duration {
    // The clock of the calling thread is always there, and never negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// How long this thread has waited on a run queue in its life.
fn runqueue_ns() -> Option<u64> {
    parse_runqueue(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// `ON_CPU WAITED SLICES`, the first two in ns. A kernel that was told not to count (`nosched_schedstats`) has zeros all over.
fn parse_runqueue(schedstat: &str) -> Option<u64> {
    let mut numbers = schedstat
        .split_whitespace()
        .map_while(|it| it.parse::<u64>().ok());
    let (_, waited, slices) = (numbers.next()?, numbers.next()?, numbers.next()?);
    (slices > 0).then_some(waited)
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
    fn the_second_number_of_schedstat_is_what_was_waited() {
        assert_eq!(parse_runqueue("1500 20 3\n"), Some(20));
        assert_eq!(parse_runqueue("0 0 0\n"), None);
        assert_eq!(parse_runqueue(""), None);
    }
}
