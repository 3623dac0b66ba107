//! `top` in a terminal of tmux.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use kvm_collector::tui::Screen;
use libtest_mimic::{Failed, Trial};

use crate::{
    check::{ensure, ensure_equal},
    guest::{Guest, GuestReport},
    process::{ChildGuard, join_reader, run_collector, spawn_reader},
    requirements::{Requirement, collector_command, test},
    temp_files::TempFile,
};

/// Environment variable that makes this test program panic while it uses the terminal.
const PANIC: &str = "KVM_TEST_PANIC_IN_TERMINAL";

const REQUIREMENTS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::Tracefs,
    Requirement::Tmux,
];

const WITH_EXITS: &[Requirement] = &[
    Requirement::Root,
    Requirement::Kvm,
    Requirement::ExitEvents,
    Requirement::Tracefs,
    Requirement::Tmux,
];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        test(
            "top_once",
            &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs],
            once,
        ),
        test(
            "top_shows_a_vm_that_starts_later",
            &[Requirement::Root, Requirement::Kvm, Requirement::Tracefs],
            late_vm,
        ),
        test(
            "top_needs_a_terminal",
            &[Requirement::Root],
            needs_a_terminal,
        ),
        test("top_drills_down", REQUIREMENTS, drills_down),
        test("top_drills_down_to_reasons", WITH_EXITS, to_reasons),
        test("top_plays_a_recording", REQUIREMENTS, plays_a_recording),
        test("top_ends_with_a_signal", REQUIREMENTS, ends_with_a_signal),
        test(
            "top_ends_after_its_duration",
            REQUIREMENTS,
            ends_after_duration,
        ),
        test("top_stops_and_continues", REQUIREMENTS, stops_and_continues),
        test(
            "a_panic_restores_the_terminal",
            &[Requirement::Tmux],
            panic_restores,
        ),
    ]
}

/// Panics in the terminal if the environment variable [`PANIC`] is set.
pub(crate) fn panic_if_requested() {
    if std::env::var_os(PANIC).is_some() {
        let _screen = Screen::open().expect("a terminal");
        println!("on the alternate screen");
        panic!("as requested");
    }
}

/// Starts a guest that writes to a port for longer than any test takes.
fn guest() -> Result<Guest, Failed> {
    start_guest("io")
}

/// Starts a guest that makes exits of this kind for longer than any test takes.
fn start_guest(kind: &str) -> Result<Guest, Failed> {
    let mut guest = Guest::prepare(&[
        "--name",
        "web-1",
        "--kind",
        kind,
        "--vcpus",
        "2",
        "--exits",
        "100000000",
        "--sleep",
        "1ms",
    ])?;
    guest.start()?;
    Ok(guest)
}

/// Counts accesses to MMIO addresses, which all architectures have.
fn once() -> Result<(), Failed> {
    let _guest = start_guest("mmio")?;
    let ended =
        run_collector(&["top", "--once", "--kind", "mmio", "-d", "500ms"])?.expect_code(0)?;
    for word in ["1 VM ", "2 vCPUs", "mmio/s", "web-1"] {
        ensure(ended.stdout.contains(word), || {
            format!("no `{word}`: {}", ended.stdout)
        })?;
    }
    ensure(!ended.stdout.contains('\x1b'), || {
        format!(
            "escape codes although stdout is no terminal: {}",
            ended.stdout
        )
    })
}

/// Only the selected VM is shown, which starts while `top` measures. Another VM runs all the time.
fn late_vm() -> Result<(), Failed> {
    let _other = guest()?;
    let args = ["top", "--once", "-d", "8s", "--kind", "userspace"];
    let mut top = ChildGuard::spawn(collector_command().args(args).args(["--vm", "late-*"]))?;
    let stderr = top.0.stderr.take().ok_or("stderr is piped")?;
    let mut warning = String::new();
    BufReader::new(stderr).read_line(&mut warning)?;
    ensure(warning.contains("no VM is named `late-*` yet"), || {
        format!("no warning, but {warning}")
    })?;
    // It takes six seconds, so that it runs when `top` has attached its programs.
    GuestReport::run_short_vm("late-1", 1500, "4ms")?;
    let screen = spawn_reader(top.0.stdout.take());
    ensure_equal("exit code", top.wait()?, Some(0))?;
    let screen = join_reader(screen);
    ensure(
        screen.contains("1 VM ") && screen.contains("late-1"),
        || format!("top does not show the late VM alone: {screen}"),
    )
}

fn needs_a_terminal() -> Result<(), Failed> {
    run_collector(&["top"])?.expect_code(2)?.expect_message(&[
        "terminal",
        "--once",
        "exits -I 1s",
    ])?;
    Ok(())
}

fn drills_down() -> Result<(), Failed> {
    let _guest = guest()?;
    let tmux = Tmux::new("drill")?;
    tmux.top()?;
    tmux.wait_for(&["web-1", "pio/s", "by VM", "? help"])?;
    tmux.keys(&["Enter"])?;
    tmux.wait_for(&["all > web-1", "by vCPU"])?;
    tmux.keys(&["Enter"])?;
    tmux.wait_for(&["by pio", "port 0x3f8 out"])?;
    tmux.keys(&["?"])?;
    tmux.wait_for(&["this help"])?;
    tmux.keys(&["x", "Escape"])?;
    tmux.wait_for(&["all > web-1", "by vCPU"])?;
    tmux.keys(&["Space"])?;
    tmux.wait_for(&["PAUSED", "Space resume"])?;
    // The screen is drawn in the new size at once.
    tmux.tmux(&["resize-window", "-t", "it", "-x", "120", "-y", "30"])?;
    tmux.wait_for(&["H histogram"])?;
    tmux.keys(&["q"])?;
    tmux.ended_with(0)
}

fn to_reasons() -> Result<(), Failed> {
    let _guest = guest()?;
    let tmux = Tmux::new("reasons")?;
    tmux.start("$TOP top -I 200ms")?;
    tmux.wait_for(&["1 VM ", "2 vCPUs", "web-1", "exits/s", "by VM"])?;
    tmux.keys(&["Enter"])?;
    tmux.wait_for(&["all > web-1", "by vCPU", "vCPU 0", "vCPU 1"])?;
    tmux.keys(&["Enter"])?;
    tmux.wait_for(&["all > web-1 > vCPU", "by exit reason"])?;
    tmux.wait_until("a row of io", |screen| {
        let mut lines = screen.lines();
        // The names of SVM and of VMX.
        lines.any(|line| line.starts_with("io ") || line.starts_with("IO_INSTRUCTION "))
    })?;
    tmux.keys(&["q"])?;
    tmux.ended_with(0)
}

fn plays_a_recording() -> Result<(), Failed> {
    let _guest = guest()?;
    let file = TempFile::new("top");
    let path = file.arg()?;
    run_collector(&["record", "-o", path, "-d", "500ms"])?.expect_code(0)?;
    let tmux = Tmux::new("recording")?;
    tmux.start(&format!("$TOP top -i {path} -I 100ms"))?;
    tmux.wait_for(&["END OF RECORDING"])?;
    tmux.keys(&["q"])?;
    tmux.ended_with(0)
}

fn ends_with_a_signal() -> Result<(), Failed> {
    let _guest = guest()?;
    for signal in ["TERM", "INT", "HUP"] {
        let tmux = Tmux::new(signal)?;
        tmux.top()?;
        tmux.wait_for(&["web-1"])?;
        tmux.signal(signal)?;
        tmux.ended_with(0)?;
    }
    Ok(())
}

fn ends_after_duration() -> Result<(), Failed> {
    let tmux = Tmux::new("time")?;
    tmux.start("$TOP top --kind pio -d 1s")?;
    tmux.ended_with(0)
}

fn stops_and_continues() -> Result<(), Failed> {
    let _guest = guest()?;
    let tmux = Tmux::new("stop")?;
    // Only a shell with job control can continue a stopped command.
    tmux.keys(&["set -m", "Enter"])?;
    tmux.top()?;
    tmux.wait_for(&["web-1"])?;
    tmux.keys(&["C-z"])?;
    tmux.wait_for_no("? help")?;
    tmux.keys(&["clear; stty -a", "Enter"])?;
    tmux.wait_for_words(&["icanon", "echo"])?;
    tmux.keys(&["fg", "Enter"])?;
    tmux.wait_for(&["web-1", "? help"])?;
    // Ctrl-L draws the same screen again.
    tmux.keys(&["C-l"])?;
    tmux.keys(&["Enter"])?;
    tmux.wait_for(&["all > web-1", "? help"])?;
    tmux.keys(&["q"])?;
    tmux.wait_for_no("? help")
}

fn panic_restores() -> Result<(), Failed> {
    let tmux = Tmux::new("panic")?;
    let this = std::env::current_exe()?;
    tmux.start(&format!("RUST_BACKTRACE=0 {PANIC}=1 {}", this.display()))?;
    tmux.wait_for(&["panicked", "as requested"])?;
    tmux.ended_with(101)
}

/// A terminal of 80x24 with a shell. It is closed when dropped.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    fn new(name: &str) -> Result<Self, Failed> {
        let file = format!("kvm-collector-test-{}-{name}", std::process::id());
        let tmux = Self {
            socket: std::env::temp_dir().join(file),
        };
        // Without the settings of this machine, and with the shell that every machine has.
        tmux.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-s",
            "it",
            "-x",
            "80",
            "-y",
            "24",
            "sh",
        ])?;
        Ok(tmux)
    }

    fn tmux(&self, args: &[&str]) -> Result<String, Failed> {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(args);
        let output = command
            .env_remove("TMUX")
            .env("TOP", collector_command().get_program())
            .env("PS1", "$ ")
            .env("LC_ALL", "C.UTF-8")
            .output()?;
        ensure(output.status.success(), || {
            format!("{command:?}: {output:?}")
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn keys(&self, keys: &[&str]) -> Result<(), Failed> {
        for key in keys {
            self.tmux(&["send-keys", "-t", "it", key])?;
        }
        Ok(())
    }

    /// Starts a command in the shell. Afterwards, the shell prints its exit code and the settings of the terminal.
    fn start(&self, command: &str) -> Result<(), Failed> {
        let line = format!("{command}; echo \"ended: $?\"; stty -a");
        self.keys(&[&line, "Enter"])
    }

    fn top(&self) -> Result<(), Failed> {
        self.start("$TOP top --kind pio -I 200ms")
    }

    /// Returns the text on the screen.
    fn screen(&self) -> Result<String, Failed> {
        self.tmux(&["capture-pane", "-p", "-t", "it"])
    }

    /// Waits until all of these texts are on the screen.
    fn wait_for(&self, texts: &[&str]) -> Result<(), Failed> {
        self.wait_until(&format!("{texts:?}"), |screen| {
            texts.iter().all(|text| screen.contains(text))
        })
    }

    /// Waits until all of these are on the screen as whole words: `-echo` is not `echo`.
    fn wait_for_words(&self, words: &[&str]) -> Result<(), Failed> {
        self.wait_until(&format!("{words:?}"), |screen| {
            words
                .iter()
                .all(|word| screen.split_whitespace().any(|it| it == *word))
        })
    }

    /// Waits until the text is not on the screen.
    fn wait_for_no(&self, text: &str) -> Result<(), Failed> {
        self.wait_until(&format!("no {text}"), |screen| !screen.contains(text))
    }

    fn wait_until(&self, expected: &str, matches: impl Fn(&str) -> bool) -> Result<(), Failed> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let screen = self.screen()?;
            if matches(&screen) {
                return Ok(());
            }
            ensure(Instant::now() < deadline, || {
                format!("expected {expected}, the screen is\n{screen}")
            })?;
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the command has ended with this exit code. Checks that the screen, the cursor and the settings of the
    /// terminal are restored.
    fn ended_with(&self, code: i32) -> Result<(), Failed> {
        let ended = format!("ended: {code}");
        self.wait_for(&[&ended])?;
        self.wait_for_words(&["icanon", "echo", "opost"])?;
        let state = self.tmux(&[
            "display",
            "-p",
            "-t",
            "it",
            "#{alternate_on} #{cursor_flag}",
        ])?;
        ensure(state.trim() == "0 1", || {
            format!("alternate screen, cursor: {state}")
        })?;
        let screen = self.screen()?;
        ensure(!screen.contains("? help"), || {
            format!("text of `top` is left on the screen:\n{screen}")
        })
    }

    /// Sends a signal to the command that the shell runs.
    fn signal(&self, signal: &str) -> Result<(), Failed> {
        let shell = self.tmux(&["display", "-p", "-t", "it", "#{pane_pid}"])?;
        let shell = shell.trim();
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))?;
        let child = children
            .split_whitespace()
            .next()
            .ok_or("the shell runs nothing")?;
        let status = Command::new("kill").args(["-s", signal, child]).status()?;
        ensure(status.success(), || format!("kill: {status}"))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // Fails if the server has ended together with its shell.
        let _ = self.tmux(&["kill-server"]);
        let _ = fs::remove_file(&self.socket);
    }
}
