//! `top` in a terminal that controls it, as in a shell.

#[path = "common/raw_event.rs"]
mod raw_event;
#[path = "common/raw_record.rs"]
mod raw_record;
#[path = "messages/sample.rs"]
#[expect(dead_code, reason = "the other samples are for messages")]
mod sample;
#[path = "common/temporary_folder.rs"]
mod temporary_folder;

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use temporary_folder::TemporaryFolder;

/// Time limit for expected output and ends.
const TIMEOUT: Duration = Duration::from_secs(20);

/// `top`, which plays a recording in a terminal.
struct Top {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    _folder: TemporaryFolder,
}

impl Top {
    fn start() -> Self {
        Self::start_on(80, 24)
    }

    /// Starts it in a terminal of this size.
    fn start_on(columns: u16, rows: u16) -> Self {
        let folder = TemporaryFolder::new();
        sample::write_recording(&folder.file("kvm.data"));
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        tcsetwinsize(&master, size(columns, rows)).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a path"))
            .expect("a terminal");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-collector"));
        command
            .args(["top", "-i"])
            .arg(folder.file("kvm.data"))
            .stdin(terminal.try_clone().expect("a duplicate"))
            .stdout(terminal)
            .stderr(Stdio::null());
        let control = || {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(io::stdin())?;
            Ok(())
        };
        // SAFETY: the closure only executes system calls.
        let command = unsafe { command.pre_exec(control) };
        let child = command.spawn().expect("the collector");
        let keyboard = File::from(master);
        let mut output = keyboard.try_clone().expect("a duplicate");
        let (sender, screen) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4 << 10];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let _ = sender.send(buffer[..length].to_vec());
            }
        });
        Self {
            child,
            keyboard,
            screen,
            _folder: folder,
        }
    }

    /// Reads until this text has been printed.
    fn wait_for(&self, text: &str) {
        let (start, mut output) = (Instant::now(), Vec::new());
        while !String::from_utf8_lossy(&output).contains(text) {
            let left = TIMEOUT.saturating_sub(start.elapsed());
            let Ok(more) = self.screen.recv_timeout(left) else {
                let last = output.get(output.len().saturating_sub(2000)..);
                panic!(
                    "no {text:?} at the end of {:?}",
                    last.map(String::from_utf8_lossy)
                );
            };
            output.extend(more);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("a terminal");
    }

    /// Waits for the end. Returns the exit code.
    fn wait(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal prints when the screen is left.
const LEAVE_SCREEN: &str = "\x1b[?1049l";

#[test]
fn ctrl_c_ends_the_screen_also_in_an_escape_sequence() {
    // The start of a paste, a key, the position of the mouse, and an answer of the terminal.
    for begun in ["", "\x1b[200~some text", "\x1b[1", "\x1b[<1;", "\x1b[?1;"] {
        let mut top = Top::start();
        top.wait_for("kvm.data");
        top.press(begun.as_bytes());
        // So that it is read before the terminal discards it because of Ctrl-C.
        thread::sleep(Duration::from_millis(100));
        top.press(b"\x03");
        assert_eq!(top.wait(), Some(0), "{begun:?}");
        top.wait_for(LEAVE_SCREEN);
    }
}

#[test]
fn other_keys_send_no_signals() {
    let mut top = Top::start();
    top.wait_for("kvm.data");
    // Ctrl-\ would end the process with a core dump.
    top.press(b"\x1c");
    top.wait_for("no key `Ctrl-4`");
    top.press(b"q");
    assert_eq!(top.wait(), Some(0));
    top.wait_for(LEAVE_SCREEN);
}

/// A terminal can have any size, but the cells of the largest one would need 400 GB.
#[test]
fn the_screen_of_a_huge_terminal_is_limited() {
    let mut top = Top::start_on(u16::MAX, u16::MAX);
    top.wait_for("kvm.data");
    for (columns, rows) in [(80, 24), (u16::MAX, u16::MAX), (1, u16::MAX), (100, 30)] {
        tcsetwinsize(&top.keyboard, size(columns, rows)).expect("a terminal");
        thread::sleep(Duration::from_millis(100));
    }
    top.press(b"?");
    // The frame of the help.
    top.wait_for("╭─");
    top.press(b"qq");
    assert_eq!(top.wait(), Some(0));
    top.wait_for(LEAVE_SCREEN);
}
