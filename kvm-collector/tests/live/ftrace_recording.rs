//! The kernel's own recorder: an ftrace instance that nobody else has, gone when dropped.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process,
};

use libtest_mimic::Failed;

/// Enough for what a test's guests do.
const BUFFER_KIB: &str = "16384";

/// A recording of all events of KVM.
#[derive(Debug)]
pub(crate) struct FtraceRecording {
    dir: PathBuf,
}

impl FtraceRecording {
    /// Records from here on, with the clock that the collector uses.
    pub(crate) fn start() -> Result<Self, Failed> {
        let dir = PathBuf::from(format!(
            "/sys/kernel/tracing/instances/kvm-collector-test-{}",
            process::id()
        ));
        fs::create_dir(&dir).map_err(said(&dir))?;
        let recording = Self { dir };
        recording.set("buffer_size_kb", BUFFER_KIB)?;
        recording.set("trace_clock", "mono")?;
        // Without the column of flags the lines are laid out as the collector's.
        recording.set("options/irq-info", "0")?;
        recording.set("events/kvm/enable", "1")?;
        recording.set("events/kvmmmu/enable", "1")?;
        Ok(recording)
    }

    /// Ends it: all lines, and how many events are not among them.
    pub(crate) fn stop(self) -> Result<(String, u64), Failed> {
        self.set("tracing_on", "0")?;
        let lines = fs::read_to_string(self.dir.join("trace")).map_err(said("trace".as_ref()))?;
        Ok((lines, self.lost()?))
    }

    fn lost(&self) -> io::Result<u64> {
        let mut lost = 0;
        for cpu in fs::read_dir(self.dir.join("per_cpu"))? {
            let stats = fs::read_to_string(cpu?.path().join("stats"))?;
            lost += stats
                .lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(what, _)| what.ends_with("overrun") || *what == "dropped events")
                .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
                .sum::<u64>();
        }
        Ok(lost)
    }

    fn set(&self, file: &str, value: &str) -> Result<(), Failed> {
        Ok(fs::write(self.dir.join(file), value).map_err(said(file.as_ref()))?)
    }
}

impl Drop for FtraceRecording {
    fn drop(&mut self) {
        // An instance is a folder that looks full, and is removed as if it were empty.
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The events that print a pointer with `%p`: ftrace shows a hash of it, whose key is the kernel's secret. (Its option
/// `hash-ptr` switches that off, but 6.1 then leaves out every `%s`.)
pub(crate) fn events_with_hashes() -> Result<BTreeSet<String>, Failed> {
    let mut events = BTreeSet::new();
    for system in ["kvm", "kvmmmu"] {
        for entry in fs::read_dir(format!("/sys/kernel/tracing/events/{system}"))? {
            let entry = entry?;
            // The folder has files of its own beside those of its events.
            let format = fs::read_to_string(entry.path().join("format")).unwrap_or_default();
            let is_hash = |rest: &str| !rest.starts_with(|it: char| it.is_ascii_alphanumeric());
            if format.split("%p").skip(1).any(is_hash) {
                events.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    Ok(events)
}

/// For `map_err`: which file it was.
fn said(path: &Path) -> impl FnOnce(io::Error) -> String + '_ {
    move |err| format!("{}: {err}", path.display())
}
