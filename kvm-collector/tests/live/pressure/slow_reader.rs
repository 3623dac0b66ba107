//! Readers that read the output of a collector slowly, or not at all.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;

use super::{
    load::{Load, LoadReport},
    memory_limit::MemoryLimit,
};
use crate::{check::ensure, running_collector::RunningCollector, temp_files::TempDir};

/// The speed at which a [`Reader`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speed {
    /// 200 KB per second.
    Slow,
    Unlimited,
    /// The reader does not read, but keeps the file open.
    Stopped,
    /// The reader closes the file.
    Closed,
}

/// A thread that reads the output of a collector.
pub(super) struct Reader {
    speed: Arc<Mutex<Speed>>,
    thread: JoinHandle<Vec<u8>>,
}

impl Reader {
    pub(super) fn start(mut input: File, speed: Speed) -> Self {
        let speed = Arc::new(Mutex::new(speed));
        let shared_speed = Arc::clone(&speed);
        let thread = thread::spawn(move || {
            let mut output = Vec::new();
            let mut buffer = vec![0; 4 << 10];
            loop {
                let speed = shared_speed.lock().map_or(Speed::Closed, |speed| *speed);
                match speed {
                    Speed::Closed => return output,
                    Speed::Unlimited => {}
                    Speed::Slow | Speed::Stopped => thread::sleep(Duration::from_millis(20)),
                }
                if speed != Speed::Stopped {
                    // Reading from a terminal fails once no process has it open.
                    let Ok(length @ 1..) = input.read(&mut buffer) else {
                        return output;
                    };
                    output.extend_from_slice(&buffer[..length]);
                }
            }
        });
        Self { speed, thread }
    }

    pub(super) fn set_speed(&self, new: Speed) {
        if let Ok(mut speed) = self.speed.lock() {
            *speed = new;
        }
    }

    /// Waits for the end of the file. Returns everything that was read.
    pub(super) fn join(self) -> Result<Vec<u8>, Failed> {
        let output = self.thread.join();
        output.map_err(|_| "the reader panicked".into())
    }
}

/// Creates a FIFO, and opens it for reading.
fn create_fifo(path: &str) -> Result<File, Failed> {
    use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, mknodat};
    mknodat(
        rustix::fs::CWD,
        path,
        FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )?;
    // Without O_NONBLOCK, opening waits for a writer.
    let reader = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    fcntl_setfl(&reader, OFlags::empty())?;
    Ok(reader)
}

/// A FIFO as the output file of a collector, and its reader. The speed of the reader is that of a simulated disk.
pub(super) struct SlowDisk {
    folder: TempDir,
    pub(super) reader: Reader,
}

impl SlowDisk {
    pub(super) fn new(name: &str) -> Result<Self, Failed> {
        let folder = TempDir::new(name)?;
        let file = create_fifo(&folder.file("pipe"))?;
        // The reader starts when there is a writer, since it would otherwise read the end of the file.
        let reader = Reader::start(file, Speed::Stopped);
        Ok(Self { folder, reader })
    }

    fn path(&self) -> String {
        self.folder.file("pipe")
    }

    /// Starts a collector that writes to the FIFO.
    pub(super) fn start_collector(&self, args: &[&str]) -> Result<RunningCollector, Failed> {
        let path = self.path();
        let writer = File::options().read(true).write(true).open(&path)?;
        // The header of a recording is larger than the buffer of a pipe.
        self.reader.set_speed(Speed::Unlimited);
        let collector = RunningCollector::start(&[args, &["-o", &path]].concat());
        drop(writer);
        collector
    }

    /// Runs the load while the reader is slow, then ends the collector. Returns everything that the collector wrote.
    pub(super) fn run_slowly(
        self,
        load: Load,
        collector: RunningCollector,
    ) -> Result<(LoadReport, Vec<u8>), Failed> {
        let memory = MemoryLimit::new(collector.pid())?;
        self.reader.set_speed(Speed::Slow);
        let load_report = load.run()?;
        memory.check()?;
        self.reader.set_speed(Speed::Unlimited);
        collector.end()?.expect_code(0)?;
        Ok((load_report, self.reader.join()?))
    }
}

/// Waits until a thread of a process is blocked in writing to a pipe.
pub(super) fn wait_until_blocked_on_pipe(pid: u32) -> Result<(), Failed> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let mut wait_channels = Vec::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // Reading fails if the thread has just ended.
            wait_channels.extend(fs::read_to_string(thread?.path().join("wchan")));
        }
        if wait_channels.iter().any(|name| name.contains("pipe")) {
            return Ok(());
        }
        ensure(Instant::now() < deadline, || {
            format!("no thread is blocked on a pipe, but in {wait_channels:?}")
        })?;
        thread::sleep(Duration::from_millis(20));
    }
}
