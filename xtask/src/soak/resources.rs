//! What a process takes: memory, open files, and the memory of its BPF maps and programs, as /proc says.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};

/// Memory may grow by this: a huge page, and what a thread that has ended leaves, 2.6 KB per row with `exits`.
const MOST_GROWTH_KIB: u64 = 2 << 10;

/// And of those that read the ring by this: up to eight batches of 1 MiB are read before they are written. When that happens for the
/// first time is chance, and the C library keeps what they took.
const BATCHES_KIB: u64 = 8 << 10;

/// Until then buffers have been as full as they get, and the kernel has made huge pages of what it may: it looks every ten seconds.
const LEAST_WARM_UP: Duration = Duration::from_secs(15);

/// Memory may be higher for a moment by this: eight batches of the ring, which are read before they are written, and the places of
/// 2^18 events that are put in order.
const MOST_PEAK_KIB: u64 = 24 << 10;

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    rss_kib: u64,
    files: u64,
    maps_kib: u64,
}

/// What a process took over time.
#[derive(Debug)]
pub(super) struct Resources {
    pid: u32,
    samples: Vec<Sample>,
}

impl Resources {
    pub(super) fn of(pid: u32) -> Self {
        Self {
            pid,
            samples: Vec::new(),
        }
    }

    pub(super) fn sample(&mut self, at: Duration) -> Result<()> {
        let folder = format!("/proc/{}", self.pid);
        let status = fs::read_to_string(format!("{folder}/status"))
            .with_context(|| format!("process {} has ended before its time", self.pid))?;
        let rss_kib = line(&status, "VmRSS:").context("it has ended")?;
        let mut files = 0;
        let mut maps = BTreeMap::new();
        for file in fs::read_dir(format!("{folder}/fdinfo"))? {
            files += 1;
            // Some are open for a moment only.
            let Ok(info) = fs::read_to_string(file?.path()) else {
                continue;
            };
            // The same may be open twice.
            let id = line(&info, "map_id:").or_else(|| line(&info, "prog_id:"));
            if let (Some(id), Some(bytes)) = (id, line(&info, "memlock:")) {
                maps.insert((info.contains("map_id:"), id), bytes);
            }
        }
        self.samples.push(Sample {
            at,
            rss_kib,
            files,
            maps_kib: maps.values().sum::<u64>() >> 10,
        });
        Ok(())
    }

    pub(super) fn grown(&self) -> Grown {
        Grown {
            rss_kib: self.course(|it| it.rss_kib),
            files: self.course(|it| it.files),
            maps_kib: self.course(|it| it.maps_kib),
        }
    }

    fn course(&self, of: fn(&Sample) -> u64) -> Course {
        let tenth = self.samples.last().map_or(Duration::ZERO, |it| it.at) / 10;
        let warm = tenth.max(LEAST_WARM_UP);
        let in_warm_up = self.samples.iter().filter(|it| it.at <= warm).map(of);
        let at_end = self.samples.iter().filter(|it| it.at >= tenth * 9).map(of);
        Course {
            warm: in_warm_up.max().unwrap_or(0),
            end: at_end.min().unwrap_or(0),
            peak: self.samples.iter().map(of).max().unwrap_or(0),
        }
    }
}

/// A line's number.
fn line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// How a number went. It goes up and down: what leaks raises the least of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    /// Most in the warm-up.
    pub(super) warm: u64,
    /// Least in the last tenth.
    pub(super) end: u64,
    pub(super) peak: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Grown {
    pub(super) rss_kib: Course,
    pub(super) files: Course,
    pub(super) maps_kib: Course,
}

impl Grown {
    pub(super) fn violations(&self, reads_ring: bool) -> Vec<String> {
        let most_kib = MOST_GROWTH_KIB + if reads_ring { BATCHES_KIB } else { 0 };
        let bounds = [
            ("memory (KiB)", self.rss_kib, most_kib),
            ("open files", self.files, 0),
            ("memory of maps (KiB)", self.maps_kib, 0),
        ];
        let mut violations: Vec<_> = bounds
            .iter()
            .filter(|(_, course, most)| course.end > course.warm + most)
            .map(|(what, course, _)| format!("{what} grew from {} to {}", course.warm, course.end))
            .collect();
        let memory = self.rss_kib;
        if memory.peak > memory.warm + MOST_PEAK_KIB {
            violations.push(format!("memory was {} KiB for a moment", memory.peak));
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rss: impl Fn(u64) -> u64) -> Grown {
        let samples = (0..100).map(|at| Sample {
            at: Duration::from_secs(at),
            rss_kib: rss(at),
            files: 10 + at % 2,
            maps_kib: 5,
        });
        let resources = Resources {
            pid: 0,
            samples: samples.collect(),
        };
        resources.grown()
    }

    #[test]
    fn a_leak_is_told_from_waves() {
        assert!(
            of(|at| 50_000 + 5_000 * (at % 3))
                .violations(false)
                .is_empty()
        );
        assert_eq!(of(|at| 50_000 + 100 * at).violations(false).len(), 1);
        assert_eq!(
            of(|at| if at == 50 { 90_000 } else { 50_000 })
                .violations(false)
                .len(),
            1
        );
    }
}
