//! The VMs that run the live tests.

use std::time::Duration;

use crate::vm::{Machine, Series, Vm};

/// A VM that runs the live tests, and which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) machine: Machine,
    pub(super) kernel: Series,
    tests: Tests,
}

/// Which live tests a VM runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tests {
    All,
    /// The core set (`kvm-collector/tests/live/test_set.rs`): what depends on the processor and the kernel.
    CoreSet,
    /// The test with Linux as the guest of QEMU.
    LinuxGuest,
}

/// All VMs, those that take longest first. The output of the first one is shown while it runs.
const ALL: [Environment; 9] = [
    Environment {
        machine: Machine::Svm,
        kernel: Series::V6_1,
        tests: Tests::All,
    },
    Environment {
        machine: Machine::Svm,
        kernel: Series::V6_12,
        tests: Tests::All,
    },
    Environment {
        machine: Machine::Vmx,
        kernel: Series::V6_1,
        tests: Tests::CoreSet,
    },
    Environment {
        machine: Machine::Svm,
        kernel: Series::V5_10,
        tests: Tests::CoreSet,
    },
    Environment {
        machine: Machine::Svm,
        kernel: Series::Backports,
        tests: Tests::CoreSet,
    },
    Environment {
        machine: Machine::Svm,
        kernel: Series::Sid,
        tests: Tests::CoreSet,
    },
    Environment {
        machine: Machine::Arm64,
        kernel: Series::V6_12,
        tests: Tests::CoreSet,
    },
    Environment {
        machine: Machine::Arm64Nvhe,
        kernel: Series::V6_1,
        tests: Tests::CoreSet,
    },
    Environment {
        machine: Machine::Svm,
        kernel: Series::V6_12,
        tests: Tests::LinuxGuest,
    },
];

/// Which of the VMs run, and what.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Selection {
    pub(super) machine: Option<Machine>,
    pub(super) kernel: Option<Series>,
    /// Each VM runs all tests, except that with a Linux guest.
    pub(super) all_tests: bool,
}

/// Returns the selected VMs.
pub(super) fn select(selection: Selection) -> Vec<Environment> {
    let Selection {
        machine,
        kernel,
        all_tests,
    } = selection;
    ALL.into_iter()
        .filter(|it| machine.is_none_or(|machine| machine == it.machine))
        .filter(|it| kernel.is_none_or(|kernel| kernel == it.kernel))
        .map(|it| Environment {
            tests: match it.tests {
                Tests::CoreSet if all_tests => Tests::All,
                tests => tests,
            },
            ..it
        })
        .collect()
}

impl Environment {
    /// Returns the name in the summary.
    pub(super) fn name(self) -> String {
        match self.machine {
            Machine::Svm if self.tests == Tests::LinuxGuest => {
                format!("VM {} linux-guest", self.kernel.name())
            }
            Machine::Svm => format!("VM {}", self.kernel.name()),
            Machine::Vmx => format!("VM {} vmx", self.kernel.name()),
            Machine::Arm64 => format!("VM {} arm64", self.kernel.name()),
            Machine::Arm64Nvhe => format!("VM {} arm64-nvhe", self.kernel.name()),
        }
    }

    /// Returns the name of the machine for users.
    pub(super) fn machine_name(self) -> &'static str {
        match self.machine {
            Machine::Svm if self.tests == Tests::LinuxGuest => "SVM (AMD), QEMU with Linux",
            Machine::Svm => "SVM (AMD)",
            Machine::Vmx => "VMX (Intel)",
            Machine::Arm64 => "arm64, VHE",
            Machine::Arm64Nvhe => "arm64, nVHE",
        }
    }

    /// Returns the VM without files, with its time limits.
    pub(super) fn vm(self) -> Vm {
        let mut vm = Vm::with_machine(self.machine, self.kernel);
        if self.tests == Tests::LinuxGuest {
            vm = vm.with_linux_guest();
        } else if (self.machine, self.kernel) == (Machine::Svm, Series::V5_10) {
            // Each step over all of them takes time, so not in a VM that runs all tests.
            vm.possible_cpus = Some(256);
        }
        // All live tests take ten minutes, or twenty if two VMs share two busy CPUs. No test takes half of 300 seconds. In Bochs,
        // the core set takes a few minutes, and a single test up to a fifth of that.
        (vm.timeout, vm.max_silence) = match (self.machine, self.tests) {
            (Machine::Vmx, Tests::All) => {
                (Duration::from_secs(6 * 3600), Duration::from_secs(1800))
            }
            (Machine::Vmx, Tests::CoreSet | Tests::LinuxGuest) => {
                (Duration::from_secs(2400), Duration::from_secs(600))
            }
            (Machine::Svm | Machine::Arm64 | Machine::Arm64Nvhe, _) => {
                (Duration::from_secs(2400), Duration::from_secs(300))
            }
        };
        vm
    }

    /// Returns the start of the command line that runs the live tests `program`.
    pub(super) fn command(self, program: &str) -> Vec<String> {
        let words: &[_] = match self.tests {
            Tests::All => &[program],
            Tests::CoreSet => &["env", "KVM_TEST_SET=core", program],
            Tests::LinuxGuest => &["env", "KVM_TEST_SET=linux-guest", program],
        };
        words.iter().map(|&word| word.to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_select_vms() {
        let names = |machine, kernel| {
            let selection = Selection {
                machine,
                kernel,
                all_tests: false,
            };
            let selected = select(selection).into_iter();
            selected.map(Environment::name).collect::<Vec<_>>()
        };
        assert_eq!(names(None, None).len(), ALL.len());
        assert_eq!(names(Some(Machine::Vmx), None), ["VM 6.1 vmx"]);
        assert_eq!(names(None, Some(Series::Sid)), ["VM sid"]);
        assert_eq!(names(Some(Machine::Svm), Some(Series::V6_1)), ["VM 6.1"]);
        assert!(names(Some(Machine::Vmx), Some(Series::V6_12)).is_empty());
    }

    #[test]
    fn two_vms_run_all_tests_unless_all_do() {
        let runs_all = |all_tests| {
            let selected = select(Selection {
                all_tests,
                ..Selection::default()
            });
            let commands = selected.into_iter().map(|it| it.command("/bin/live"));
            commands.filter(|it| it == &["/bin/live"]).count()
        };
        assert_eq!(runs_all(false), 2);
        assert_eq!(runs_all(true), ALL.len() - 1);
    }
}
