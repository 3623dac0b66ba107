//! Resources of a process, from /proc: memory, open files, and memory of BPF maps and programs.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};

/// Permitted growth of memory: a huge page, and the totals of ended threads (2.6 KB per row of `exits`).
const MAX_GROWTH_KIB: u64 = 2 << 10;

/// Additional growth for tools that read the rings: up to eight batches of 1 MiB wait to be written. It is random when
/// that first happens, and the C library does not return the memory.
const BATCHES_KIB: u64 = 8 << 10;

/// Minimum warm-up. By then buffers have had their largest size, and khugepaged, which runs every ten seconds, has merged pages.
const MIN_WARM_UP: Duration = Duration::from_secs(15);

/// Permitted short peak of memory: eight batches of the rings that wait to be written, and the reorder buffer of 2^18
/// events.
const MAX_PEAK_KIB: u64 = 24 << 10;

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    rss_kib: u64,
    files: u64,
    maps_kib: u64,
}

/// Samples of the resources of a process.
#[derive(Debug)]
pub(super) struct Resources {
    pid: u32,
    samples: Vec<Sample>,
}

impl Resources {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            samples: Vec::new(),
        }
    }

    pub(super) fn sample(&mut self, at: Duration) -> Result<()> {
        let folder = format!("/proc/{}", self.pid);
        let status = fs::read_to_string(format!("{folder}/status"))
            .with_context(|| format!("process {} has ended early", self.pid))?;
        let rss_kib = parse_field(&status, "VmRSS:").context("the process has ended")?;
        let mut files = 0;
        let mut maps = BTreeMap::new();
        for file in fs::read_dir(format!("{folder}/fdinfo"))? {
            files += 1;
            // Some files are open only for a moment.
            let Ok(info) = fs::read_to_string(file?.path()) else {
                continue;
            };
            // A map or program may be open twice.
            let id = parse_field(&info, "map_id:").or_else(|| parse_field(&info, "prog_id:"));
            if let (Some(id), Some(bytes)) = (id, parse_field(&info, "memlock:")) {
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

    pub(super) fn growth(&self) -> Growth {
        Growth {
            rss_kib: self.course(|sample| sample.rss_kib),
            files: self.course(|sample| sample.files),
            maps_kib: self.course(|sample| sample.maps_kib),
        }
    }

    fn course(&self, value: fn(&Sample) -> u64) -> Course {
        let tenth = self
            .samples
            .last()
            .map_or(Duration::ZERO, |sample| sample.at)
            / 10;
        let warm = tenth.max(MIN_WARM_UP);
        let in_warm_up = self
            .samples
            .iter()
            .filter(|sample| sample.at <= warm)
            .map(value);
        let at_end = self
            .samples
            .iter()
            .filter(|sample| sample.at >= tenth * 9)
            .map(value);
        Course {
            warm: in_warm_up.max().unwrap_or(0),
            end: at_end.min().unwrap_or(0),
            peak: self.samples.iter().map(value).max().unwrap_or(0),
        }
    }
}

/// Returns the number in the line that starts with this name.
fn parse_field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Course of a value over time. A leak raises the minimum, although the value goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    /// Maximum during the warm-up.
    pub(super) warm: u64,
    /// Minimum in the last tenth.
    pub(super) end: u64,
    pub(super) peak: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    pub(super) rss_kib: Course,
    pub(super) files: Course,
    pub(super) maps_kib: Course,
}

impl Growth {
    pub(super) fn violations(&self, reads_ring: bool) -> Vec<String> {
        let max_growth_kib = MAX_GROWTH_KIB + if reads_ring { BATCHES_KIB } else { 0 };
        let bounds = [
            ("memory (KiB)", self.rss_kib, max_growth_kib),
            ("open files", self.files, 0),
            ("memory of maps (KiB)", self.maps_kib, 0),
        ];
        let mut violations: Vec<_> = bounds
            .iter()
            .filter(|(_, course, most)| course.end > course.warm + most)
            .map(|(resource, course, _)| {
                format!("{resource} grew from {} to {}", course.warm, course.end)
            })
            .collect();
        let memory = self.rss_kib;
        if memory.peak > memory.warm + MAX_PEAK_KIB {
            violations.push(format!("memory had a peak of {} KiB", memory.peak));
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth_of(rss: impl Fn(u64) -> u64) -> Growth {
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
        resources.growth()
    }

    #[test]
    fn a_leak_is_distinguished_from_fluctuation() {
        assert!(
            growth_of(|at| 50_000 + 5_000 * (at % 3))
                .violations(false)
                .is_empty()
        );
        assert_eq!(growth_of(|at| 50_000 + 100 * at).violations(false).len(), 1);
        assert_eq!(
            growth_of(|at| if at == 50 { 90_000 } else { 50_000 })
                .violations(false)
                .len(),
            1
        );
    }
}
