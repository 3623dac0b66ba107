//! An ftrace instance as a reference: it records events, or counts them with hist triggers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use libtest_mimic::Failed;

use crate::check::{ensure, ensure_equal};

const TRACEFS: &str = "/sys/kernel/tracing";

/// An ftrace instance, which is removed on drop.
pub(crate) struct FtraceInstance {
    root: PathBuf,
    /// The recorded events, as `kvm/kvm_exit`.
    enabled: Vec<String>,
    /// Each event with a hist trigger, and the trigger.
    triggers: Vec<(String, String)>,
}

/// A recorded event: one line of the file `trace`.
#[derive(Debug)]
pub(crate) struct FtraceEvent {
    pub(crate) tid: u32,
    pub(crate) time_us: u64,
    pub(crate) event: String,
    pub(crate) text: String,
}

impl FtraceInstance {
    pub(crate) fn new() -> Result<Self, Failed> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kvm-collector-test-{}-{number}", std::process::id());
        let root = Path::new(TRACEFS).join("instances").join(name);
        fs::create_dir(&root)
            .map_err(|error| format!("cannot create an ftrace instance: {error}"))?;
        let instance = Self {
            root,
            enabled: Vec::new(),
            triggers: Vec::new(),
        };
        instance.write("trace_clock", "mono")?;
        Ok(instance)
    }

    /// Starts to record events, named like `kvm/kvm_exit`, of some threads, with a buffer of `buffer_kib` KiB per CPU.
    pub(crate) fn start_recording(
        &mut self,
        events: &[&str],
        tids: &[u32],
        buffer_kib: u32,
    ) -> Result<(), Failed> {
        self.write("buffer_size_kb", &buffer_kib.to_string())?;
        for event in events {
            self.write(&format!("events/{event}/filter"), &thread_filter(tids))?;
            self.write(&format!("events/{event}/enable"), "1")?;
            self.enabled.push((*event).to_owned());
        }
        Ok(())
    }

    /// Starts to count an event. `keys` lists the fields to group the counts by.
    pub(crate) fn add_histogram(&mut self, event: &str, keys: &str) -> Result<(), Failed> {
        let trigger = format!("hist:keys={keys}:size=4096");
        self.write(&format!("events/{event}/trigger"), &trigger)?;
        self.triggers.push((event.to_owned(), trigger));
        Ok(())
    }

    /// Returns the rows of an event's histogram: the values of `keys`, in this order, and the count.
    pub(crate) fn read_histogram(
        &self,
        event: &str,
        keys: &[&str],
    ) -> Result<Vec<(Vec<u64>, u64)>, Failed> {
        let text = self.read(&format!("events/{event}/hist"))?;
        ensure(text.contains("Dropped: 0"), || {
            format!("the hist trigger dropped events: {text}")
        })?;
        Ok(text
            .lines()
            .filter_map(|line| parse_histogram_row(line, keys))
            .collect())
    }

    /// Returns how often the event happened in these threads, from a histogram by `common_pid`.
    pub(crate) fn count_in_threads(&self, event: &str, tids: &[u32]) -> Result<u64, Failed> {
        let rows = self.read_histogram(event, &["common_pid"])?;
        Ok(rows
            .iter()
            .filter(|(keys, _)| tids.iter().any(|tid| keys[0] == u64::from(*tid)))
            .map(|(_, count)| count)
            .sum())
    }

    /// Returns all recorded events in order. Fails if the buffer was too small for them.
    pub(crate) fn read_events(&self) -> Result<Vec<FtraceEvent>, Failed> {
        for cpu in fs::read_dir(self.root.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            for line in stats.lines() {
                if let Some((name, count)) = line.split_once(": ")
                    && matches!(name, "overrun" | "commit overrun" | "dropped events")
                {
                    ensure_equal(name, count.trim(), "0")?;
                }
            }
        }
        let text = self.read("trace")?;
        text.lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .map(|line| {
                parse_event(line).ok_or_else(|| format!("not a line of ftrace: `{line}`").into())
            })
            .collect()
    }

    /// Returns how often each event was recorded.
    pub(crate) fn count_recorded_events(&self) -> Result<BTreeMap<String, u64>, Failed> {
        let mut counts = BTreeMap::new();
        for event in self.read_events()? {
            *counts.entry(event.event).or_default() += 1;
        }
        Ok(counts)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Failed> {
        let path = self.root.join(file);
        fs::write(&path, text)
            .map_err(|error| format!("cannot write `{text}` to {}: {error}", path.display()).into())
    }

    fn read(&self, file: &str) -> Result<String, Failed> {
        let path = self.root.join(file);
        fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()).into())
    }
}

impl Drop for FtraceInstance {
    fn drop(&mut self) {
        for event in &self.enabled {
            let _ = self.write(&format!("events/{event}/enable"), "0");
        }
        for (event, trigger) in &self.triggers {
            let _ = self.write(&format!("events/{event}/trigger"), &format!("!{trigger}"));
        }
        if let Err(error) = fs::remove_dir(&self.root) {
            eprintln!(
                "cannot remove the ftrace instance {}: {error}",
                self.root.display()
            );
        }
    }
}

/// Returns an ftrace filter that selects the events of these threads.
fn thread_filter(tids: &[u32]) -> String {
    let terms: Vec<_> = tids
        .iter()
        .map(|tid| format!("common_pid == {tid}"))
        .collect();
    terms.join(" || ")
}

/// Parses a line such as `{ common_pid:        106, exit_reason:        123 } hitcount:       1001`.
fn parse_histogram_row(line: &str, keys: &[&str]) -> Option<(Vec<u64>, u64)> {
    let (fields, rest) = line.trim().strip_prefix('{')?.split_once('}')?;
    let value = |key| {
        fields
            .split(',')
            .filter_map(|field| field.split_once(':'))
            .find(|(name, _)| name.trim() == key)?
            .1
            .trim()
            .parse()
            .ok()
    };
    let count = rest.trim().strip_prefix("hitcount:")?;
    let values = keys.iter().map(|key| value(*key)).collect::<Option<_>>()?;
    Some((values, count.split_whitespace().next()?.parse().ok()?))
}

/// Parses a line such as `       CPU 0/KVM-106     [001] d..1.    12.345678: kvm_exit: vcpu 0 reason io ...`. The name of a
/// thread may contain spaces.
fn parse_event(line: &str) -> Option<FtraceEvent> {
    let (thread, rest) = line.split_once(" [")?;
    let tid = thread.trim_end().rsplit('-').next()?.parse().ok()?;
    let (_, rest) = rest.split_once("] ")?;
    let (head, rest) = rest.split_once(": ")?;
    let (seconds, micros) = head.split_whitespace().last()?.split_once('.')?;
    let (event, text) = rest.split_once(": ").unwrap_or((rest, ""));
    Some(FtraceEvent {
        tid,
        time_us: seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?,
        event: event.trim_end_matches(':').to_owned(),
        text: text.to_owned(),
    })
}
