//! A recording of all KVM events by ftrace, in the text format that `trace` prints.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use libtest_mimic::Failed;

/// The size of the buffer of each CPU: enough for the events of the guests of a test.
const BUFFER_KIB: &str = "16384";

/// A recording of all KVM events with an ftrace instance, which is removed on drop.
#[derive(Debug)]
pub(crate) struct FtraceRecording {
    dir: PathBuf,
}

impl FtraceRecording {
    /// Starts to record, with the clock that the collector uses.
    pub(crate) fn start() -> Result<Self, Failed> {
        let dir = PathBuf::from(format!(
            "/sys/kernel/tracing/instances/kvm-collector-test-{}",
            process::id()
        ));
        fs::create_dir(&dir).map_err(with_path(&dir))?;
        let recording = Self { dir };
        recording.set("buffer_size_kb", BUFFER_KIB)?;
        recording.set("trace_clock", "mono")?;
        // Without the column of flags, the lines have the format of the collector.
        recording.set("options/irq-info", "0")?;
        for system in event_systems() {
            recording.set(&format!("events/{system}/enable"), "1")?;
        }
        Ok(recording)
    }

    /// Stops. Returns all lines, and the number of lost events.
    pub(crate) fn stop(self) -> Result<(String, u64), Failed> {
        self.set("tracing_on", "0")?;
        let lines =
            fs::read_to_string(self.dir.join("trace")).map_err(with_path("trace".as_ref()))?;
        Ok((lines, self.count_lost()?))
    }

    fn count_lost(&self) -> io::Result<u64> {
        let mut lost = 0;
        for cpu in fs::read_dir(self.dir.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            lost += stats
                .lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(name, _)| name.ends_with("overrun") || *name == "dropped events")
                .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(lost)
    }

    fn set(&self, file: &str, value: &str) -> Result<(), Failed> {
        Ok(fs::write(self.dir.join(file), value).map_err(with_path(file.as_ref()))?)
    }
}

impl Drop for FtraceRecording {
    fn drop(&mut self) {
        // The directory of an instance has entries, but `rmdir` removes it nevertheless.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// Returns KVM's event systems: on x86 two, elsewhere one.
pub(crate) fn event_systems() -> impl Iterator<Item = &'static str> {
    let exists = |system: &&str| {
        Path::new("/sys/kernel/tracing/events")
            .join(system)
            .exists()
    };
    ["kvm", "kvmmmu"].into_iter().filter(exists)
}

/// Returns the events that print a pointer with `%p`. ftrace prints a hash of the pointer, with a key that only the kernel
/// knows. (The option `hash-ptr` switches that off, but Linux 6.1 then omits every `%s`.)
pub(crate) fn events_with_hashes() -> Result<BTreeSet<String>, Failed> {
    let mut events = BTreeSet::new();
    for system in event_systems() {
        for entry in fs::read_dir(format!("/sys/kernel/tracing/events/{system}"))? {
            let entry = entry?;
            // Besides the directories of events, there are files.
            let format = fs::read_to_string(entry.path().join("format")).unwrap_or_default();
            let is_hash = |rest: &str| !rest.starts_with(|char: char| char.is_ascii_alphanumeric());
            if format.split("%p").skip(1).any(is_hash) {
                events.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Ok(events)
}

/// For `map_err`: adds the path to the message.
fn with_path(path: &Path) -> impl FnOnce(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}
