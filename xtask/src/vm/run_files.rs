//! The files of one run of an emulator: what it boots, and its logs.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, anyhow};

use crate::workspace;

/// Number of log lines that are shown if the VM dies.
const LOG_LINES: usize = 30;

/// The files of one run, in a separate folder.
#[derive(Debug)]
pub(super) struct RunFiles {
    dir: PathBuf,
    /// Name of the log with the emulator's own messages.
    emulator_log: &'static str,
}

impl RunFiles {
    pub(super) fn create(emulator_log: &'static str) -> Result<Self> {
        // Several VMs may run at the same time.
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let (process, run) = (std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let dir = workspace::target(&format!("vm/run-{process}-{run}"));
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, emulator_log })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn initramfs(&self) -> PathBuf {
        self.dir.join("initramfs.cpio")
    }

    pub(super) fn console(&self) -> PathBuf {
        self.dir.join("console.log")
    }

    pub(super) fn create_emulator_log(&self) -> Result<fs::File> {
        Ok(fs::File::create(self.dir.join(self.emulator_log))?)
    }

    /// Deletes the files, after a run without error.
    pub(super) fn remove(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.dir)?)
    }

    /// Returns an error for a VM that died before the init script wrote an exit code. The files are kept.
    pub(super) fn early_end(&self) -> anyhow::Error {
        self.add_logs(&anyhow!("the VM stopped before its command ended"))
    }

    /// Adds the end of the logs to an error. The files are kept.
    pub(super) fn add_logs(&self, err: &anyhow::Error) -> anyhow::Error {
        let console = fs::read(self.console()).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let emulator = fs::read(self.dir.join(self.emulator_log)).unwrap_or_default();
        let emulator = String::from_utf8_lossy(&emulator);
        let mut log: Vec<_> = emulator.lines().filter(|line| !is_usual(line)).collect();
        log.extend(console.lines().map(str::trim_end));
        let message = match find_panic(&console) {
            Some(panic) => format!("the kernel of the VM panicked: {panic}"),
            None => err.to_string(),
        };
        let end = log[log.len().saturating_sub(LOG_LINES)..].join("\n");
        anyhow!("{message} (logs: {})\n{end}", self.dir.display())
    }
}

/// Returns whether an emulator prints this line in every run.
fn is_usual(line: &str) -> bool {
    // Bochs' lines start with its clock and a level: `00000000000i[PLUGIN] loaded plugin libbx_serial.so`.
    let is_info_of_bochs = line
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .starts_with("i[");
    is_info_of_bochs
        || line.starts_with("ALSA lib ")
        || line.contains("TCG doesn't support requested feature")
}

fn find_panic(console: &str) -> Option<&str> {
    let start = console.find("Kernel panic - ")?;
    console[start..].lines().next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unusual_lines_of_emulators_are_shown() {
        assert!(is_usual(
            "00000000000i[PLUGIN] loaded plugin libbx_serial.so"
        ));
        assert!(is_usual(
            "ALSA lib pcm.c:2666:(snd_pcm_open_noupdate) Unknown PCM default"
        ));
        assert!(!is_usual(
            "00000000000p[BIOS  ] >>PANIC<< ROM: couldn't open ROM image file"
        ));
        assert!(!is_usual("qemu-system-x86_64: cannot set up guest memory"));
    }

    #[test]
    fn a_panic_is_found_in_the_console() {
        let console = "[    1.0] fine\r\n[    2.0] Kernel panic - not syncing: Attempted to kill init!\r\n[    2.1] CPU: 0\r\n";
        assert_eq!(
            find_panic(console),
            Some("Kernel panic - not syncing: Attempted to kill init!")
        );
        assert_eq!(find_panic("all is well"), None);
    }
}
