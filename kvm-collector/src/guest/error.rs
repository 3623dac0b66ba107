//! Errors of the built-in guest.

use std::io;
use std::time::Duration;

use super::help;

/// Reason why the built-in guest cannot be created or did not run as planned.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// `/dev/kvm` does not exist.
    #[error("/dev/kvm does not exist: {}", help::NO_KVM)]
    NoKvm,
    /// This process may not open `/dev/kvm`.
    #[error(
        "no permission to use /dev/kvm: run as root, or as a member of its group (`ls -l /dev/kvm`)"
    )]
    NoPermission,
    /// A KVM ioctl failed.
    #[error("{call} failed")]
    Kvm {
        /// Name of the ioctl.
        call: &'static str,
        /// Error from the kernel.
        #[source]
        source: io::Error,
    },
    /// The host could not provide a resource other than KVM.
    #[error("cannot create {what}")]
    Host {
        /// The resource.
        what: &'static str,
        /// Error from the kernel.
        #[source]
        source: io::Error,
    },
    /// The plan has more vCPUs per VM than the guest supports.
    #[error("{requested} vCPUs are too many for one VM: the maximum is {max}")]
    TooManyVcpus {
        /// vCPUs per VM in the plan.
        requested: u32,
        /// Supported number of vCPUs.
        max: u32,
    },
    /// The plan has more page-fault exits than the guest has memory for.
    #[error("{requested} page-fault exits per vCPU are too many: the maximum is {max}")]
    TooManyPages {
        /// Page-fault exits per vCPU in the plan.
        requested: u64,
        /// Number of pages that a vCPU can touch.
        max: u64,
    },
    /// The program does not fit into its page.
    #[error(
        "{kinds} kinds per round are too many: the guest program must fit into one page; list fewer kinds"
    )]
    ProgramTooLong {
        /// Kinds in a round, including repeated ones.
        kinds: usize,
    },
    /// The plan is not possible on this machine, for this reason.
    #[error("{0}")]
    ImpossiblePlan(&'static str),
    /// The timer of the guest does not support this time.
    #[error("the timer of the guest must be between 1us and 8s, not {requested:?}")]
    TimerOutOfRange {
        /// Timer of the plan.
        requested: Duration,
    },
    /// A vCPU thread cannot be pinned to a CPU.
    #[error(
        "cannot pin the thread of vCPU {vcpu} of VM {vm} to CPU {cpu}: check that the CPU is online (`lscpu`) and that this process may use it (`taskset -p $$`)"
    )]
    CannotPin {
        /// Index of the VM.
        vm: u32,
        /// Index of the vCPU in the VM.
        vcpu: u32,
        /// The host CPU.
        cpu: u32,
        /// Error from the kernel.
        #[source]
        source: io::Error,
    },
    /// The plan needs more open files than this process may have.
    #[error(
        "{vms} VMs with {vcpus} vCPUs each need {needed} open files, but the limit is {limit}: raise the hard limit of open files (`ulimit -Hn`, or LimitNOFILE= in systemd)"
    )]
    TooManyFiles {
        /// VMs in the plan.
        vms: u32,
        /// vCPUs per VM.
        vcpus: u32,
        /// Number of open files that the plan needs.
        needed: u64,
        /// Maximum number of open files of this process.
        limit: u64,
    },
    /// A guest-physical address is outside the guest's memory.
    #[error("guest-physical address {gpa:#x} is outside the guest's memory")]
    AddressOutOfRange {
        /// The address.
        gpa: u64,
    },
    /// `KVM_RUN` returned with an exit that the program does not cause.
    #[error(
        "vCPU {vcpu} of VM {vm} stopped with unexpected exit {exit} at address {instruction:#x}, after {rounds} rounds"
    )]
    UnexpectedExit {
        /// Index of the VM.
        vm: u32,
        /// Index of the vCPU in the VM.
        vcpu: u32,
        /// The exit, with its parameters.
        exit: String,
        /// Instruction pointer at the exit.
        instruction: u64,
        /// Completed rounds.
        rounds: u64,
    },
    /// The program ended, but the guest's registers show another number of rounds than planned.
    #[error(
        "vCPU {vcpu} of VM {vm} ended after {done} rounds instead of {planned}: its exit counts are unreliable"
    )]
    WrongRoundCount {
        /// Index of the VM.
        vm: u32,
        /// Index of the vCPU in the VM.
        vcpu: u32,
        /// Completed rounds.
        done: u64,
        /// Planned rounds.
        planned: u64,
    },
    /// A vCPU thread panicked or ended early.
    #[error("the thread of vCPU {vcpu} of VM {vm} died")]
    ThreadDied {
        /// Index of the VM.
        vm: u32,
        /// Index of the vCPU in the VM.
        vcpu: u32,
    },
}

impl GuestError {
    /// Returns a closure for `map_err` that adds the name of the failed KVM ioctl.
    pub(super) fn kvm(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm {
            call,
            source: io::Error::from_raw_os_error(error.errno()),
        }
    }
}
