//! Texts for users that depend on the architecture.

/// How to get a `/dev/kvm`.
pub const NO_KVM: &str = "load a KVM module (`modprobe kvm_amd` or `modprobe kvm_intel`)";

/// Description of the command `guest`.
pub const GUEST: &str = "\
Run a tiny guest that makes a known number of exits, and print that number

Each vCPU executes as many rounds as --exits says. A round makes one exit of each kind in --kind, in that order; \
only triple-fault happens once, at the end. There are two more io exits, one before the first round and one after the last. With nested paging there is \
also one page-fault exit per page that the guest uses: one in real mode (code), four in long mode (code and page \
tables). The only other exits are interrupts, and repeated page faults if two vCPUs access a new page at the same \
time.";

/// Description of the option `--kind`.
pub const KINDS: &str = "\
Make these kinds of exits in each round

Kinds: io, io-read, cpuid, mmio, mmio-read, msr, msr-read, hlt, hypercall, page-fault, wbinvd, invd, xsetbv, ud (ud2: \
#UD), exception (wrmsr to a nonexistent MSR: #GP), cr, pvclock, dirty (write a page, read the dirty log), \
triple-fault (once, at the end). These make KVM emulate the interrupt controllers: apic, apic-read, ipi (to itself), timer (with hlt), pit, irq (PIC), ioapic, msi.";

/// Description of the option `--mode`.
pub const MODES: &str = "Processor mode of the guest: real (16 bits) or long (64 bits)";

/// Description of the option `--timer`.
pub const TIMER: &str =
    "Set the APIC timer to this time for kind `timer`; its hlt lasts this long [default: 200us]";
