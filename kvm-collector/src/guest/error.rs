//! What can go wrong with a guest.

use std::io;
use std::time::Duration;

/// Why a guest could not be made, or did not do what it should.
#[derive(Debug, thiserror::Error)]
#[cfg_attr(
    feature = "test-api",
    expect(missing_docs, reason = "the fields are what the message says they are")
)]
pub enum GuestError {
    /// The host has no KVM.
    #[error(
        "there is no /dev/kvm: is a kvm module loaded (`modprobe kvm_amd` or `modprobe kvm_intel`)?"
    )]
    NoKvm,
    /// The host has KVM, but not for us.
    #[error(
        "no permission to use /dev/kvm: run as root, or as a member of its group (`ls -l /dev/kvm`)"
    )]
    NotAllowed,
    /// KVM refused a step of making the machine.
    #[error("{call} failed")]
    Kvm {
        call: &'static str,
        #[source]
        source: io::Error,
    },
    /// The host did not give what the guest needs: memory, a thread.
    #[error("cannot get {what}")]
    Host {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// More vCPUs than there is room for.
    #[error("{asked} vCPUs are too many for one VM: at most {most}")]
    TooManyVcpus { asked: u32, most: u32 },
    /// More first touches than there is memory for.
    #[error(
        "{asked} page-fault exits are too many for each vCPU: its memory has {most} pages to touch"
    )]
    TooManyPages { asked: u64, most: u64 },
    /// The program does not fit into its page.
    #[error("a round of {kinds} kinds is too long: the guest's program must fit into one page")]
    ProgramTooLong { kinds: usize },
    /// `hlt` with interrupt controllers in the kernel, and nothing that would end it.
    #[error(
        "hlt cannot be combined with kinds that use the kernel's interrupt controllers: the kernel would wait for an interrupt that never comes (timer has a hlt of its own)"
    )]
    HltForEver,
    /// A second program that takes interrupts, in real mode.
    #[error(
        "in real mode, kinds that take interrupts or exceptions work with one vCPU only: no segment reaches the programs of the others"
    )]
    OutOfSegments,
    /// A hypercall on a processor that has none.
    #[error(
        "no hypercall exits here: the processor has neither vmx nor svm (KVM virtualizes in software)"
    )]
    NoHypercall,
    /// A time that the APIC's timer cannot be set to.
    #[error("the guest's timer takes 1us to 8s, not {asked:?}")]
    TimerOutOfRange { asked: Duration },
    /// A CPU that is not there, is offline, or is not among those this process may use.
    #[error(
        "cannot bind the thread of vCPU {vcpu} of VM {vm} to CPU {cpu}: is it online (`lscpu`), and may this process use it (`taskset -p $$`)?"
    )]
    NoCpu {
        vm: u32,
        vcpu: u32,
        cpu: u32,
        #[source]
        source: io::Error,
    },
    /// More files than this process may have open.
    #[error(
        "{vms} VMs of {vcpus} vCPUs take {needed} open files, and this process may have {limit}: raise its limit (`ulimit -Hn`, LimitNOFILE=)"
    )]
    TooManyFiles {
        vms: u32,
        vcpus: u32,
        needed: u64,
        limit: u64,
    },
    /// A guest-physical address outside the guest's memory.
    #[error("guest-physical address {gpa:#x} is outside the guest's memory")]
    OutOfMemory { gpa: u64 },
    /// The guest left for a reason its program does not have.
    #[error(
        "vCPU {vcpu} of VM {vm} stopped unexpectedly with {exit} at rip {rip:#x}, after {rounds} of its rounds"
    )]
    Unexpected {
        vm: u32,
        vcpu: u32,
        exit: String,
        rip: u64,
        rounds: u64,
    },
    /// The guest ended, but its own count is not what was asked for.
    #[error(
        "vCPU {vcpu} of VM {vm} ended after {done} rounds instead of {asked}: its numbers cannot be trusted"
    )]
    Miscounted {
        vm: u32,
        vcpu: u32,
        done: u64,
        asked: u64,
    },
    /// A vCPU's thread panicked or vanished.
    #[error("the thread of vCPU {vcpu} of VM {vm} died")]
    ThreadDied { vm: u32, vcpu: u32 },
}

impl GuestError {
    /// For `map_err`: the KVM call that failed.
    pub(super) fn kvm(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Kvm {
            call,
            source: io::Error::from_raw_os_error(error.errno()),
        }
    }
}
