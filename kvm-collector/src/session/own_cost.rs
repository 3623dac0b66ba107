//! `--self`: what watching itself costs.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    format::units::{count, duration, percent},
    host::usage,
    probe::{ProgramRuns, RunStatistics, map_bytes},
    source::Live,
};

/// What there was in the beginning.
#[derive(Debug)]
pub struct OwnCost {
    _statistics: RunStatistics,
    began: Instant,
    cpu: Duration,
    guests: Option<Duration>,
}

impl OwnCost {
    /// Begins to count. To be called before programs are attached.
    ///
    /// # Errors
    /// When the kernel does not count how long programs run.
    pub fn begin() -> anyhow::Result<Self> {
        let statistics = RunStatistics::begin()
            .context("--self: the kernel does not count how long programs run (it takes Linux 5.8 and CAP_SYS_ADMIN)")?;
        Ok(Self {
            _statistics: statistics,
            began: Instant::now(),
            cpu: usage::own_cpu_time(),
            guests: usage::guest_cpu_time(),
        })
    }

    /// Prints on stderr what it cost until now.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn print(&self, live: &Live) -> anyhow::Result<()> {
        let elapsed = self.began.elapsed();
        let guests = usage::guest_cpu_time()
            .zip(self.guests)
            .map(|(now, then)| now.saturating_sub(then));
        let cost = Cost {
            runs: live.runs()?,
            elapsed,
            cpus: usage::online_cpus(),
            guests,
            cpu: usage::own_cpu_time().saturating_sub(self.cpu),
            resident_bytes: usage::peak_resident_bytes(),
            map_bytes: map_bytes().context("cannot read /proc/self/fdinfo")?,
            ring_bytes: live.ring_bytes(),
        };
        eprint!("{}", cost.text());
        Ok(())
    }
}

struct Cost {
    runs: Vec<ProgramRuns>,
    elapsed: Duration,
    cpus: usize,
    /// CPU time of all guests, as the kernel accounts it.
    guests: Option<Duration>,
    cpu: Duration,
    resident_bytes: Option<u64>,
    map_bytes: u64,
    ring_bytes: u64,
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn share(part: Duration, all: Duration) -> String {
    if all.is_zero() {
        return "-".to_owned();
    }
    percent(part.as_secs_f64() / all.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Of the events' column at least.
const EVENT_WIDTH: usize = 32;

impl Cost {
    fn text(&self) -> String {
        let mut runs: Vec<_> = self.runs.iter().filter(|it| it.runs > 0).collect();
        let widest = runs.iter().map(|it| it.event.len()).max().unwrap_or(0);
        let width = widest.max(EVENT_WIDTH);
        let mut text = format!(
            "\n  own cost in {}\n\n  {:<18} {:<width$} {:>13} {:>10} {:>10}\n",
            duration(ns(self.elapsed)),
            "program",
            "event",
            "runs",
            "time",
            "per run"
        );
        runs.sort_by_key(|it| std::cmp::Reverse(it.time));
        let mut line = |program: &str, event: &str, runs: u64, time: Duration| {
            let _ = writeln!(
                text,
                "  {program:<18} {event:<width$} {:>13} {:>10} {:>10}",
                count(runs),
                duration(ns(time)),
                ns(time).checked_div(runs).map_or("-".into(), duration),
            );
        };
        for it in &runs {
            line(&it.program, &it.event, it.runs, it.time);
        }
        let all: Duration = runs.iter().map(|it| it.time).sum();
        line("all", "", runs.iter().map(|it| it.runs).sum(), all);
        let of_cpus = self.elapsed * u32::try_from(self.cpus).unwrap_or(u32::MAX);
        let _ = write!(
            text,
            "\n  programs      {} of the time of {} CPUs",
            share(all, of_cpus),
            self.cpus
        );
        if let Some(guests) = self.guests.filter(|it| !it.is_zero()) {
            let _ = write!(text, ", {} of the guests'", share(all, guests));
        }
        let exits = self.runs.iter().filter(|it| it.event == "kvm:kvm_exit");
        if let Some(exits) = exits.map(|it| it.runs).max().filter(|it| *it > 0) {
            let _ = write!(text, ", {} an exit", duration(ns(all) / exits));
        }
        let _ = write!(
            text,
            "\n  this process  {} of CPU time, {} of one CPU",
            duration(ns(self.cpu)),
            share(self.cpu, self.elapsed)
        );
        if let Some(bytes) = self.resident_bytes {
            let _ = write!(text, "; {} resident at most", mib(bytes));
        }
        let _ = writeln!(
            text,
            "\n  kernel        {} of maps, {} of that rings",
            mib(self.map_bytes),
            mib(self.ring_bytes)
        );
        text
    }
}
