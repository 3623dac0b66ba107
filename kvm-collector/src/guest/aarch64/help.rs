//! Texts for users that depend on the architecture.

/// How to get a `/dev/kvm`.
pub const NO_KVM: &str = "KVM needs a kernel that was started at EL2; its messages say why it is missing (`dmesg | grep -i kvm`)";

/// Description of the command `guest`.
pub const GUEST: &str = "\
Run a tiny guest that makes a known number of exits, and print that number

Each vCPU executes as many rounds as --exits says. A round makes one exit of each kind in --kind, in that order. \
There are two more mmio exits, one before the first round and one after the last, and one more page fault, for the \
page with the code. At the end, the last vCPU of a VM makes one more hypercall, which powers the VM off. The only \
other exits are interrupts, and repeated page faults if two vCPUs access a new page at the same time.";

/// Description of the option `--kind`.
pub const KINDS: &str = "\
Make these kinds of exits in each round

Kinds: mmio, mmio-read, hypercall (PSCI_VERSION), sysreg-read, page-fault, dirty (write a page, read the dirty log). \
This one makes KVM emulate the interrupt controller: wfi (until the timer expires).";

/// Description of the option `--mode`.
pub const MODES: &str = "Processor mode of the guest: el1";

/// Description of the option `--timer`.
pub const TIMER: &str =
    "Set the virtual timer to this time for kind `wfi`; its halt lasts this long [default: 200us]";
