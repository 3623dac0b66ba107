//! Items of a stream of events. Live and recorded streams have the same items.

use super::ThreadId;

/// One event, with its raw record.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// When it happened, in ns of the source's clock. For the running kernel that is
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The CPU on which it happened.
    pub cpu: u32,
    /// The process in which it happened.
    pub tgid: u32,
    /// The thread in which it happened.
    pub tid: u32,
    /// The thread that the event concerns. For KVM's events, the thread in which it happened. For
    /// other events, the vCPU thread in which it happened or that it names; `None` if neither is a
    /// vCPU thread.
    pub subject: Option<ThreadId>,
    /// The index of the thread's vCPU, from the thread's name, if the kernel's events do not have it; otherwise
    /// [`VCPU_UNKNOWN`](kvm_ebpf_common::VCPU_UNKNOWN).
    pub named_vcpu: u32,
    /// The event's index among the formats of the source.
    pub slot: usize,
    /// If only a sample of the events is recorded, how many events this one stands for; otherwise
    /// 0.
    pub sample_weight: u64,
    /// The raw record, with each field at the offset that its format gives.
    pub raw: &'a [u8],
}

impl Event<'_> {
    /// Returns the thread in which it happened.
    #[must_use]
    pub fn thread(&self) -> ThreadId {
        ThreadId {
            tgid: self.tgid,
            tid: self.tid,
        }
    }

    /// Returns how many events this one stands for: 1 unless events are sampled.
    #[must_use]
    pub fn represented_events(&self) -> u64 {
        self.sample_weight.max(1)
    }
}

/// The next item of a stream of events, in time order.
#[derive(Debug, Clone, Copy)]
pub enum StreamItem<'a> {
    /// A selected event.
    Event(Event<'a>),
    /// An event that cannot be decoded. Its thread is known.
    Damaged {
        /// When it happened, in ns.
        time_ns: u64,
        /// The thread in which it happened.
        thread: ThreadId,
    },
    /// Events are missing between the preceding and the following items.
    Lost {
        /// The slot of the missing event, or [`StreamItem::UNSELECTED_SLOT`]; `None` if the event
        /// is unknown.
        slot: Option<usize>,
        /// The CPU on which events are missing; `None` if it is unknown.
        cpu: Option<u32>,
        /// Number of missing events; 0 if another item of the stream counts them.
        count: u64,
        /// When the loss was noticed, in ns. The events were lost before that.
        time_ns: u64,
    },
    /// A thread has ended. The kernel may reuse its number for a later thread.
    ThreadEnd {
        /// The thread's number.
        tid: u32,
    },
    /// The requested range of a recording starts. The items before it are not part of the result: they
    /// only say what the threads are doing at that time. It is left out if the range starts with the
    /// first item.
    RangeStart {
        /// When it starts, in ns.
        start_ns: u64,
    },
    /// A report interval has ended. The following items belong to the next interval.
    IntervalEnd {
        /// When it ended, in ns.
        end_ns: u64,
    },
}

impl StreamItem<'_> {
    /// In [`StreamItem::Lost`], the slot of an event that is not selected.
    pub const UNSELECTED_SLOT: usize = usize::MAX;
}
