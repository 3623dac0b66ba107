//! The input for advice: an exit reason or a cause, its instruction set, and where its time went.

/// The instruction set that defines exit reasons. It decides which features of the hardware an advice names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Intel's VMX.
    Vmx,
    /// AMD's SVM.
    Svm,
    /// VMX or SVM: the vendor is not known.
    X86,
    /// The virtualization extensions of arm64.
    Arm64,
}

impl Isa {
    /// Returns whether the guest is an x86 machine, so that the standard PC address map applies.
    pub(super) fn is_x86(self) -> bool {
        self != Self::Arm64
    }
}

/// A kind of event and its number, for example a write of one MSR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause<'a> {
    /// Name of the kind, as in `--kind`: `msr`, `pio`, ...
    pub(crate) kind: &'a str,
    /// The number: an MSR, a port, an address, ...
    pub(crate) code: u64,
    /// The second number of the kind, for example 1 for a write of an MSR.
    pub(crate) class: u32,
}

/// What a row counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// VM exits with this reason, and their known causes with the number of occurrences, the most frequent first.
    Reason(&'a str, &'a [(Cause<'a>, u64)]),
    /// Events of another kind.
    Kind(Cause<'a>),
}

/// Where the time of a row went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TimeBreakdown {
    /// Number of exits that have a duration.
    pub(crate) exits: u64,
    /// In the VMM.
    pub(crate) vmm_ns: u64,
    /// In KVM, while the vCPU was halted.
    pub(crate) halted_ns: u64,
    /// For more than half of the busy time, the vCPU thread was ready to run but did not.
    pub(crate) is_mostly_preempted: bool,
    /// All time except idle time.
    pub(crate) busy_ns: u64,
    /// Time of the vCPUs, in the guest and outside of it. 0 if it is not known.
    pub(crate) vcpu_ns: u64,
    /// The guest is halted while the VMM has control.
    pub(crate) is_halt: bool,
}

/// Time in the VMM per exit from which on most exits are taken to go there, in ns. A return to user space with
/// the next KVM_RUN takes about 1 us even if the VMM does nothing, so below this, at least half of the exits stay
/// in the kernel.
const MIN_MEAN_VMM_NS: u64 = 500;

/// The largest `CONFIG_HZ`: a busy vCPU has at most as many exits per second because of the host's tick.
const MAX_HZ: u64 = 1_000;

/// Exits per second of a vCPU that the host's tick and the guest's own timer interrupts explain.
const MAX_TICKS_PER_S: u64 = 2 * MAX_HZ;

/// Wakeups per second of a vCPU that a guest with little work has.
const MAX_WAKEUPS_PER_S: u64 = 1_000;

/// Non-idle time that matters at any rate, as a part of the time of the vCPUs: 1/20 (5 %).
const LARGE_PART_OF_VCPU_TIME: u64 = 20;

impl TimeBreakdown {
    /// Returns true if there are more interrupts than the timers of the host and the guest explain, or if they cost
    /// more than timers do.
    pub(crate) fn exceeds_ticks(&self) -> bool {
        self.exceeds_rate(MAX_TICKS_PER_S)
    }

    /// Returns true if vCPUs wake up more often than those of a guest with little work, or if that costs much.
    pub(crate) fn exceeds_wakeups(&self) -> bool {
        self.exceeds_rate(MAX_WAKEUPS_PER_S)
    }

    fn exceeds_rate(&self, per_vcpu_s: u64) -> bool {
        let expected = u128::from(self.vcpu_ns) * u128::from(per_vcpu_s) / 1_000_000_000;
        u128::from(self.exits) > expected
            || self.busy_ns.saturating_mul(LARGE_PART_OF_VCPU_TIME) >= self.vcpu_ns
    }

    /// Returns true if most exits go to the VMM. It does not depend on the time in the kernel, or on how long the
    /// VMM takes.
    pub(crate) fn goes_to_vmm(&self) -> bool {
        self.vmm_ns > 0 && self.vmm_ns >= self.exits.saturating_mul(MIN_MEAN_VMM_NS)
    }

    /// Returns true if the VMM waits for the next interrupt when the guest halts, and not KVM.
    pub(crate) fn halts_in_vmm(&self) -> bool {
        self.goes_to_vmm() && self.vmm_ns > self.halted_ns
    }

    /// Returns true if more than half of the busy time was in the VMM, and the guest was not halted there.
    pub(crate) fn is_mostly_vmm(&self) -> bool {
        !self.is_halt && self.vmm_ns > self.busy_ns / 2
    }
}
