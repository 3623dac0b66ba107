//! `--self`: measures the collector's own overhead.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::stderr::write_stderr;
use crate::{
    format::units::{count, duration, percent, plural},
    host::{
        sandbox::{self, InForce},
        usage,
    },
    outside_text::OutsideText,
    probe::{ProgramRuns, RunStatistics, map_memory_bytes},
    source::Live,
};

/// Values at the start of the measurement.
#[derive(Debug)]
pub struct OverheadMeter {
    _statistics: RunStatistics,
    started: Instant,
    cpu_at_start: Duration,
    guest_cpu_at_start: Option<Duration>,
}

impl OverheadMeter {
    /// Starts the measurement. Call it before programs are attached.
    ///
    /// # Errors
    /// When the kernel cannot measure the run time of BPF programs.
    pub fn start() -> anyhow::Result<Self> {
        let statistics = RunStatistics::enable()
            .context("--self: cannot measure the run time of eBPF programs (needs Linux 5.8 and CAP_SYS_ADMIN)")?;
        Ok(Self {
            _statistics: statistics,
            started: Instant::now(),
            cpu_at_start: usage::own_cpu_time(),
            guest_cpu_at_start: usage::guest_cpu_time(),
        })
    }

    /// Prints the overhead since the start on stderr.
    ///
    /// # Errors
    /// When the statistics of the kernel cannot be read.
    pub fn print(&self, live: &Live) -> anyhow::Result<()> {
        let elapsed = self.started.elapsed();
        let guests = usage::guest_cpu_time()
            .zip(self.guest_cpu_at_start)
            .map(|(now, start)| now.saturating_sub(start));
        let report = OverheadReport {
            runs: live.runs()?,
            elapsed,
            cpus: usage::online_cpus(),
            guests,
            cpu: usage::own_cpu_time().saturating_sub(self.cpu_at_start),
            resident_bytes: usage::peak_resident_bytes(),
            map_bytes: map_memory_bytes().context("cannot read /proc/self/fdinfo")?,
            ring_bytes: live.ring_bytes(),
            sandbox: sandbox::in_force().map_or_else(|| "off".to_owned(), InForce::to_text),
        };
        write_stderr(report.to_text());
        Ok(())
    }
}

struct OverheadReport {
    runs: Vec<ProgramRuns>,
    elapsed: Duration,
    cpus: usize,
    /// CPU time of all guests on the host, as `/proc/stat` accounts it.
    guests: Option<Duration>,
    cpu: Duration,
    resident_bytes: Option<u64>,
    map_bytes: u64,
    ring_bytes: u64,
    /// What restricts this process.
    sandbox: String,
}

fn saturating_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn format_share(part: Duration, all: Duration) -> String {
    if all.is_zero() {
        return "-".to_owned();
    }
    percent(part.as_secs_f64() / all.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn format_mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Minimum width of the event column.
const MIN_EVENT_WIDTH: usize = 32;

impl OverheadReport {
    fn to_text(&self) -> String {
        let mut runs: Vec<_> = self.runs.iter().filter(|it| it.runs > 0).collect();
        let widest = runs
            .iter()
            .map(|it| OutsideText::new(&it.event).width())
            .max()
            .unwrap_or(0);
        let width = widest.max(MIN_EVENT_WIDTH);
        let mut text = format!(
            "\n  overhead of the collector in {}\n\n  {:<18} {:<width$} {:>13} {:>10} {:>10}\n",
            duration(saturating_ns(self.elapsed)),
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
                "  {program:<18} {:<width$} {:>13} {:>10} {:>10}",
                OutsideText::new(event),
                count(runs),
                duration(saturating_ns(time)),
                saturating_ns(time)
                    .checked_div(runs)
                    .map_or("-".into(), duration),
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
            "\n  programs      {} of the time of {}",
            format_share(all, of_cpus),
            plural(self.cpus as u64, "CPU")
        );
        if let Some(guests) = self.guests.filter(|it| !it.is_zero()) {
            let _ = write!(
                text,
                "; {} of the time spent in guest code",
                format_share(all, guests)
            );
        }
        let exits = self.runs.iter().filter(|it| it.event == "kvm:kvm_exit");
        if let Some(exits) = exits.map(|it| it.runs).max().filter(|it| *it > 0) {
            let _ = write!(text, "; {} per exit", duration(saturating_ns(all) / exits));
        }
        let _ = write!(
            text,
            "\n  this process  {} of CPU time, {} of one CPU",
            duration(saturating_ns(self.cpu)),
            format_share(self.cpu, self.elapsed)
        );
        if let Some(bytes) = self.resident_bytes {
            let _ = write!(text, "; {} peak resident memory", format_mib(bytes));
        }
        let _ = writeln!(
            text,
            "\n  kernel        {} in maps, {} of it in rings",
            format_mib(self.map_bytes),
            format_mib(self.ring_bytes)
        );
        let _ = writeln!(text, "  sandbox       {}", self.sandbox);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_percentage_says_of_what() {
        let mut report = OverheadReport {
            runs: vec![ProgramRuns {
                program: "slot_1".into(),
                event: "kvm:kvm_exit".into(),
                runs: 1000,
                time: Duration::from_millis(1),
            }],
            elapsed: Duration::from_secs(1),
            cpus: 2,
            guests: Some(Duration::from_millis(10)),
            cpu: Duration::from_millis(5),
            resident_bytes: None,
            map_bytes: 0,
            ring_bytes: 0,
            sandbox: "no capabilities".to_owned(),
        };
        let text = report.to_text();
        let programs = "programs      0.05% of the time of 2 CPUs; 10.00% of the time spent in guest code; 1.000 us per exit\n";
        assert!(text.contains(programs), "{text}");
        assert!(
            text.contains("5.000 ms of CPU time, 0.50% of one CPU"),
            "{text}"
        );
        (report.cpus, report.guests) = (1, None);
        assert!(
            report
                .to_text()
                .contains("0.10% of the time of 1 CPU; 1.000 us per exit\n")
        );
    }
}
