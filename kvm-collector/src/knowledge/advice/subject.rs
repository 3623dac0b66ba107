//! What advice is about: an exit reason or a cause, and where its time went.

/// One kind of event with its number, for example a write of one MSR.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause<'a> {
    /// Name of the kind, as in `--kind`: `msr`, `pio`, ...
    pub(crate) kind: &'a str,
    /// The number: an MSR, a port, an address, ...
    pub(crate) code: u64,
    /// The second number of the kind, for example 1 for a write of an MSR.
    pub(crate) class: u32,
    /// The guest is an x86 machine, so the standard PC address map applies.
    pub(crate) x86: bool,
}

/// What a row counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// VM exits with this reason, and their most frequent causes.
    Reason(&'a str, &'a [Cause<'a>]),
    /// Events of another kind.
    Kind(Cause<'a>),
}

/// Time of a row by part.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TimeBreakdown {
    pub(crate) vmm_ns: u64,
    pub(crate) halted_ns: u64,
    pub(crate) preempted_ns: u64,
    /// All time that is not idle.
    pub(crate) busy_ns: u64,
    /// The guest is halted while the VMM has control.
    pub(crate) is_halt: bool,
}

impl TimeBreakdown {
    pub(crate) fn is_mostly_preempted(&self) -> bool {
        self.preempted_ns > self.busy_ns / 2
    }

    pub(crate) fn is_mostly_vmm(&self) -> bool {
        !self.is_halt && self.vmm_ns > self.busy_ns / 2
    }
}
