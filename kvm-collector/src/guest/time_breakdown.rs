//! Time breakdown of a vCPU thread, measured without KVM's events.
//!
//! Tests compare it with the times that the collector computes from the events.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::bounds::read_system_file;

/// Time breakdown of a vCPU thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VcpuTimeBreakdown {
    /// Time from just before the first call of `KVM_RUN` to its last return (`CLOCK_MONOTONIC`).
    pub elapsed_ns: u64,
    /// Part of `elapsed_ns` in user space: between each return of `KVM_RUN` and the next call. It
    /// includes sleep.
    pub userspace_ns: u64,
    /// Median time between two returns of `KVM_RUN`, of the first 4,096; `None` if it returned only
    /// once. The median ignores occasional interruptions.
    pub between_returns_ns: Option<u64>,
    /// CPU time of the thread (`CLOCK_THREAD_CPUTIME_ID`), including guest time.
    pub cpu_ns: u64,
    /// Time that the thread was runnable but waited for a CPU, from `/proc/PID/task/TID/schedstat`;
    /// `None` if the kernel does not record it.
    ///
    /// The rest of `elapsed_ns`, without this and `cpu_ns`, is time blocked: asleep in user space, or
    /// halted in the kernel.
    pub runqueue_ns: Option<u64>,
    /// Number of times that the thread was scheduled onto a CPU, from the same file.
    pub switches_in: Option<u64>,
}

/// Maximum number of intervals between returns of `KVM_RUN` that are stored for the median.
const MAX_RETURN_INTERVALS: usize = 4096;

/// Measures the [`VcpuTimeBreakdown`] of the calling thread.
#[derive(Debug)]
pub(super) struct Stopwatch {
    start: Instant,
    start_cpu_time: Duration,
    start_schedstat: Option<SchedStat>,
    /// Time of the last return of `KVM_RUN`.
    last_return: Option<Instant>,
    userspace: Duration,
    /// Intervals between returns. Preallocated, so that the measured loop does not allocate.
    return_intervals: Vec<Duration>,
}

impl Stopwatch {
    /// Starts the measurement.
    pub(super) fn start() -> Self {
        let (sched, cpu) = (SchedStat::read(), thread_cpu_time());
        Self {
            start: Instant::now(),
            start_cpu_time: cpu,
            start_schedstat: sched,
            last_return: None,
            userspace: Duration::ZERO,
            return_intervals: Vec::with_capacity(MAX_RETURN_INTERVALS),
        }
    }

    /// Must be called just before `KVM_RUN`.
    pub(super) fn before_run(&mut self) {
        if let Some(returned) = self.last_return {
            self.userspace += returned.elapsed();
        }
    }

    /// Must be called as soon as `KVM_RUN` has returned.
    pub(super) fn after_run(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last_return
            && self.return_intervals.len() < MAX_RETURN_INTERVALS
        {
            self.return_intervals.push(now - last);
        }
        self.last_return = Some(now);
    }

    /// Ends the measurement, as of the last return of `KVM_RUN`.
    pub(super) fn stop(mut self) -> VcpuTimeBreakdown {
        let end = self.last_return.unwrap_or(self.start);
        let schedstat = SchedStat::read().zip(self.start_schedstat);
        VcpuTimeBreakdown {
            elapsed_ns: nanos(end - self.start),
            userspace_ns: nanos(self.userspace),
            between_returns_ns: median(&mut self.return_intervals).map(nanos),
            cpu_ns: nanos(thread_cpu_time().saturating_sub(self.start_cpu_time)),
            runqueue_ns: schedstat
                .map(|(now, start)| now.waited_ns.saturating_sub(start.waited_ns)),
            switches_in: schedstat
                .map(|(now, start)| now.switches_in.saturating_sub(start.switches_in)),
        }
    }
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn thread_cpu_time() -> Duration {
    // The conversion cannot fail: the clock is never negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Scheduler statistics of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SchedStat {
    waited_ns: u64,
    switches_in: u64,
}

impl SchedStat {
    fn read() -> Option<Self> {
        Self::parse(&read_system_file("/proc/thread-self/schedstat").ok()?)
    }

    /// Parses `CPU_NS RUNQUEUE_NS SWITCHES_IN`. Returns `None` if the kernel does not record them: all
    /// numbers are then 0.
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
    fn userspace_time_is_between_two_runs() {
        let mut watch = Stopwatch::start();
        watch.before_run();
        sleep(Duration::from_millis(20)); // as if in the guest
        watch.after_run();
        sleep(Duration::from_millis(5)); // in user space
        watch.before_run();
        watch.after_run();
        sleep(Duration::from_millis(20)); // after the last return
        let times = watch.stop();
        assert!(times.userspace_ns >= 5_000_000, "{times:?}");
        // The sleep before the first return counts as guest time. The sleep after the last is not measured.
        assert!(
            times.elapsed_ns - times.userspace_ns >= 20_000_000,
            "{times:?}"
        );
        // The only interval consists of the 5 ms in user space and an empty second run.
        let between_ns = times.between_returns_ns.expect("two returns");
        assert!(
            between_ns >= times.userspace_ns && between_ns < times.elapsed_ns,
            "{times:?}"
        );
        // The thread slept nearly all the time.
        assert!(times.cpu_ns < times.elapsed_ns, "{times:?}");
    }

    #[test]
    fn median_ignores_outliers() {
        let ms = Duration::from_millis;
        assert_eq!(
            median(&mut [ms(1), ms(90), ms(1), ms(2), ms(3)]),
            Some(ms(2))
        );
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn schedstat_is_parsed() {
        let sched = SchedStat {
            waited_ns: 20,
            switches_in: 3,
        };
        assert_eq!(SchedStat::parse("1500 20 3\n"), Some(sched));
        assert_eq!(SchedStat::parse("0 0 0\n"), None);
        assert_eq!(SchedStat::parse(""), None);
    }
}
