//! The VMs that run the live tests.

use std::time::Duration;

use crate::vm::{Machine, Series, Vm};

/// A VM that runs the live tests, and which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) machine: Machine,
    pub(super) kernel: Series,
}

/// All VMs. The output of the first one is shown while it runs.
const ALL: [Environment; 3] = [
    Environment {
        machine: Machine::Svm,
        kernel: Series::V6_1,
    },
    Environment {
        machine: Machine::Svm,
        kernel: Series::V6_12,
    },
    Environment {
        machine: Machine::Vmx,
        kernel: Series::V6_1,
    },
];

/// Returns the VMs with this machine and this kernel, if they are given.
pub(super) fn select(machine: Option<Machine>, kernel: Option<Series>) -> Vec<Environment> {
    ALL.into_iter()
        .filter(|it| machine.is_none_or(|machine| machine == it.machine))
        .filter(|it| kernel.is_none_or(|kernel| kernel == it.kernel))
        .collect()
}

impl Environment {
    /// Returns the name in the summary.
    pub(super) fn name(self) -> String {
        match self.machine {
            Machine::Svm => format!("VM {}", self.kernel.name()),
            Machine::Vmx => format!("VM {} vmx", self.kernel.name()),
            Machine::Arm64 => format!("VM {} arm64", self.kernel.name()),
            Machine::Arm64Nvhe => format!("VM {} arm64-nvhe", self.kernel.name()),
        }
    }

    /// Returns the VM without files, with its time limits.
    pub(super) fn vm(self) -> Vm {
        let mut vm = Vm::with_machine(self.machine, self.kernel);
        (vm.timeout, vm.max_silence) = match self.machine {
            // All live tests take ten minutes, or twenty if two VMs share two busy CPUs. No test takes half of 300 seconds.
            Machine::Svm | Machine::Arm64 | Machine::Arm64Nvhe => {
                (Duration::from_secs(2400), Duration::from_secs(300))
            }
            // The core set takes a few minutes, three times that on busy CPUs. A single test can take a fifth of the time.
            Machine::Vmx => (Duration::from_secs(2400), Duration::from_secs(600)),
        };
        vm
    }

    /// Returns the start of the command line that runs the live tests `program`. Bochs is so slow that its VM runs only
    /// their core set (`kvm-collector/tests/live/core_set.rs`).
    pub(super) fn command(self, program: &str) -> Vec<String> {
        let words: &[_] = match self.machine {
            Machine::Svm | Machine::Arm64 | Machine::Arm64Nvhe => &[program],
            Machine::Vmx => &["env", "KVM_TEST_CORE_SET=1", program],
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
            let selected = select(machine, kernel).into_iter();
            selected.map(Environment::name).collect::<Vec<_>>()
        };
        assert_eq!(names(None, None), ["VM 6.1", "VM 6.12", "VM 6.1 vmx"]);
        assert_eq!(names(Some(Machine::Vmx), None), ["VM 6.1 vmx"]);
        assert_eq!(names(None, Some(Series::V6_12)), ["VM 6.12"]);
        assert_eq!(names(Some(Machine::Svm), Some(Series::V6_1)), ["VM 6.1"]);
        assert!(names(Some(Machine::Vmx), Some(Series::V6_12)).is_empty());
    }

    #[test]
    fn only_the_vm_with_vmx_runs_the_core_set() {
        for environment in ALL {
            let command = environment.command("/bin/live");
            assert_eq!(command.last().map(String::as_str), Some("/bin/live"));
            let is_core = command.iter().any(|word| word.contains("CORE_SET"));
            assert_eq!(is_core, environment.machine == Machine::Vmx);
        }
    }
}
