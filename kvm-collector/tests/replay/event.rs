//! The events of a stream, and the modes of counting.

use proptest::prelude::*;

/// The type and the fields of an event, or another item of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    Exit {
        vcpu: u32,
        code: u32,
        rip: u64,
    },
    Entry,
    UserspaceExit {
        reason: u32,
        errno: i32,
    },
    Wakeup {
        ns: u64,
    },
    Pio {
        port: u32,
        rw: u32,
    },
    Mmio {
        gpa: u64,
        kind: u32,
    },
    /// A context switch from the thread to the idle task.
    SwitchOut {
        is_runnable: bool,
    },
    /// A context switch from the idle task to the thread.
    SwitchIn,
    ThreadEnd,
    /// A marker for lost events, on the event's CPU or on all CPUs.
    Lost {
        on_all_cpus: bool,
    },
    /// The end of an epoch: the totals are read.
    Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamEvent {
    pub(crate) time_ns: u64,
    pub(crate) cpu: u32,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) event_type: EventType,
}

/// What is counted, and which events are causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountMode {
    /// Exits by reason. The cause is the last access to a port or an address.
    Reason,
    /// Exits by reason. The cause is the guest's instruction pointer.
    Rip,
    Pio,
    /// Accesses to memory-mapped I/O, without reads that are not satisfied yet.
    Mmio,
    Userspace,
}

pub(crate) fn count_modes() -> impl Strategy<Value = CountMode> {
    prop::sample::select(vec![
        CountMode::Reason,
        CountMode::Rip,
        CountMode::Pio,
        CountMode::Mmio,
        CountMode::Userspace,
    ])
}
