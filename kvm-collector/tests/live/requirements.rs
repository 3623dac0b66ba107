//! The requirements of tests, and how they are checked.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::{Completion, Failed, Trial};

use crate::arch;

/// A property of the machine that a test requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// The test runs as root, which loading BPF programs requires.
    Root,
    /// `/dev/kvm` exists and may be used.
    Kvm,
    /// KVM uses the processor's extension. Otherwise `kvm_exit` and `kvm_entry` do not fire.
    ExitEvents,
    /// tracefs is mounted at `/sys/kernel/tracing`.
    Tracefs,
    /// ftrace can count events by their fields. Debian's kernel 5.10 cannot.
    HistTriggers,
    /// `perf` is installed: the reference tool for the same events.
    Perf,
    /// `setpriv` is installed: it runs a command as another user with some capabilities.
    Setpriv,
    /// `tmux` is installed: the terminal of the tests of `top`.
    Tmux,
    /// QEMU is installed, with a kernel for its guests.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "its test is for x86")
    )]
    Qemu,
    /// Many CPUs could be added to the machine. The VM with Linux 5.10 claims that.
    SpareCpus,
    /// The test runs in the disposable VM of `cargo xtask test`, where it may unload modules and break things.
    Vm,
}

impl Requirement {
    /// The reason why this machine does not meet the requirement; `None` if it does.
    fn unmet_reason(self) -> Option<&'static str> {
        let (is_met, reason) = match self {
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
                arch::has_exit_events(),
                "kvm_exit does not fire: this CPU has neither vmx nor svm",
            ),
            Self::Tracefs => (
                Path::new("/sys/kernel/tracing/events").exists(),
                "tracefs is not mounted at /sys/kernel/tracing",
            ),
            Self::HistTriggers => (
                has_hist_triggers(),
                "this kernel has no hist triggers (CONFIG_HIST_TRIGGERS)",
            ),
            Self::Perf => (
                // On some distributions it is a script that fails if there is no perf for the running kernel.
                runs("perf", "--version"),
                "perf is not installed (Debian package: linux-perf)",
            ),
            Self::Setpriv => (
                runs("setpriv", "--version"),
                "setpriv is not installed (Debian package: util-linux)",
            ),
            Self::Tmux => (
                runs("tmux", "-V"),
                "tmux is not installed (Debian package: tmux)",
            ),
            Self::Qemu => (
                Path::new("/guest/vmlinuz").exists() && runs("qemu-system-x86_64", "--version"),
                "no QEMU with a kernel for its guests in this VM",
            ),
            Self::SpareCpus => (has_spare_cpus(), "no CPUs can be added to this machine"),
            Self::Vm => (is_test_vm(), "runs only in the disposable VM"),
        };
        (!is_met).then_some(reason)
    }
}

/// A test that runs where all requirements are met. Elsewhere it is reported as ignored, with the reason.
pub(crate) fn test(
    name: &str,
    requirements: &'static [Requirement],
    run: fn() -> Result<(), Failed>,
) -> Trial {
    Trial::ignorable_test(name, move || {
        match requirements.iter().find_map(|it| it.unmet_reason()) {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => run().map(|()| Completion::Completed),
        }
    })
}

/// A command that runs the collector under test.
pub(crate) fn collector_command() -> Command {
    let built = || PathBuf::from(env!("CARGO_BIN_EXE_kvm-collector"));
    Command::new(env::var_os("KVM_COLLECTOR").map_or_else(built, PathBuf::from))
}

pub(crate) fn is_test_vm() -> bool {
    env::var_os("KVM_TEST_VM").is_some()
}

/// Returns whether a program is installed.
fn runs(program: &str, argument: &str) -> bool {
    let output = Command::new(program).arg(argument).output();
    output.is_ok_and(|output| output.status.success())
}

/// Returns whether ftrace can count events by their fields.
pub(crate) fn has_hist_triggers() -> bool {
    Path::new("/sys/kernel/tracing/events/kvm/kvm_exit/hist").exists()
}

/// Returns whether the kernel could have over a hundred CPUs, and has two.
fn has_spare_cpus() -> bool {
    let read = |list| fs::read_to_string(format!("/sys/devices/system/cpu/{list}"));
    let last_possible = read("possible").ok().and_then(|possible| {
        let (_, last) = possible.trim().rsplit_once('-')?;
        last.parse::<u32>().ok()
    });
    last_possible.is_some_and(|it| it > 100) && read("present").is_ok_and(|it| it.trim() == "0-1")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
