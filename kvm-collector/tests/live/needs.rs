//! What a test needs of the machine it runs on, and how to find out whether it is there.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::{Completion, Failed, Trial};

/// Something not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be root, as loading BPF programs takes.
    Root,
    /// `/dev/kvm`, and the right to use it.
    Kvm,
    /// A KVM that really leaves and enters guests, by vmx or svm: only then do kvm_exit and kvm_entry fire.
    ExitEvents,
    /// tracefs, mounted where it is expected.
    Tracefs,
    /// Linux's `perf`, as an oracle for the same events.
    Perf,
    /// `tmux`, to be the terminal.
    Tmux,
    /// The disposable VM of `cargo xtask test`, where a test may unload modules and wreck what it likes.
    Vm,
}

impl Need {
    /// Why it is not met here; `None` if it is.
    fn lack(self) -> Option<&'static str> {
        let (met, reason) = match self {
            Self::Root => (is_root(), "not root"),
            Self::Kvm => (
                fs::File::options()
                    .read(true)
                    .write(true)
                    .open("/dev/kvm")
                    .is_ok(),
                "no usable /dev/kvm",
            ),
            Self::ExitEvents => (
                has_cpu_flag("vmx") || has_cpu_flag("svm"),
                "kvm_exit does not fire: this CPU has neither vmx nor svm",
            ),
            Self::Tracefs => (
                Path::new("/sys/kernel/tracing/events").exists(),
                "tracefs is not mounted at /sys/kernel/tracing",
            ),
            Self::Perf => (has_perf(), "no perf to compare with (Debian's linux-perf)"),
            Self::Tmux => (has_tmux(), "no tmux to be the terminal (Debian's tmux)"),
            Self::Vm => (in_vm(), "runs only in the disposable VM"),
        };
        (!met).then_some(reason)
    }
}

/// A test that runs where all `needs` are met, and is ignored with the reason elsewhere.
pub(crate) fn test(name: &str, needs: &'static [Need], run: fn() -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(name, move || {
        match needs.iter().find_map(|need| need.lack()) {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => run().map(|()| Completion::Completed),
        }
    })
}

/// The collector under test.
pub(crate) fn collector() -> Command {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_kvm-collector"));
    Command::new(env::var_os("KVM_COLLECTOR").map_or_else(built, PathBuf::from))
}

pub(crate) fn in_vm() -> bool {
    env::var_os("KVM_TEST_VM").is_some()
}

fn has_tmux() -> bool {
    let asked = Command::new("tmux").arg("-V").output();
    asked.is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Some distributions have a script of that name, which looks for the perf of the running kernel.
fn has_perf() -> bool {
    Command::new("perf")
        .arg("--version")
        .output()
        .is_ok_and(|said| said.status.success())
}

fn has_cpu_flag(flag: &str) -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
        text.lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|word| word == flag))
    })
}
