//! An event, and what else stands in a stream of events, whichever source the stream comes from.

/// A process and one of its threads, as the kernel numbers them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Thread {
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
}

/// One event: when, where and in which thread it happened, and what the kernel wrote of it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// When, by the source's clock; of the running kernel that is `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The CPU it happened on.
    pub cpu: u32,
    /// The process in which it happened.
    pub tgid: u32,
    /// The thread in which it happened.
    pub tid: u32,
    /// The thread that the event is about: for KVM's events the one in which it happened, for others the
    /// vCPU thread that happened to run or that the event names. `None`: it is about no vCPU thread.
    pub subject: Option<Thread>,
    /// Which event: the index of its format among those of the source.
    pub slot: usize,
    /// For an event of a sample: how many events it stands for. 0: every event was recorded.
    pub sample_weight: u64,
    /// The raw record, with all fields at the offsets that the format gives.
    pub raw: &'a [u8],
}

impl Event<'_> {
    /// The thread in which it happened.
    #[must_use]
    pub fn thread(&self) -> Thread {
        Thread {
            tgid: self.tgid,
            tid: self.tid,
        }
    }

    /// How many events it stands for.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.sample_weight.max(1)
    }
}

impl StreamItem<'_> {
    /// In the place of a slot: an event that is not selected.
    pub const UNSELECTED: usize = usize::MAX;
}

/// What comes next in a stream of events, in the order of time.
#[derive(Debug, Clone, Copy)]
pub enum StreamItem<'a> {
    /// An event that is selected.
    Event(Event<'a>),
    /// An event of a known thread whose record cannot be decoded.
    Damaged {
        /// When.
        time_ns: u64,
        /// In which thread.
        thread: Thread,
    },
    /// Events are missing between the items before and those after.
    Lost {
        /// Of which event, if that is known: the index of its format, or [`StreamItem::UNSELECTED`].
        slot: Option<usize>,
        /// On which CPU, if that is known.
        cpu: Option<u32>,
        /// How many; 0 where they are counted elsewhere in the stream.
        count: u64,
        /// When this is known: they were lost before.
        time_ns: u64,
    },
    /// A thread has ended. Its number may be another thread's from here on.
    ThreadEnd {
        /// The thread's number.
        tid: u32,
    },
    /// An interval of the measurement is over; what comes next belongs to the next one.
    Interval {
        /// When it ended.
        end_ns: u64,
    },
}
