//! An event, wherever it comes from.

/// One event: when, where and whose it was, and what the kernel wrote of it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// When, by the source's clock; of the running kernel that is `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The CPU it happened on.
    pub cpu: u32,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// Which event: the index of its format among those of the source.
    pub slot: usize,
    /// The raw record, with all fields at the offsets that the format gives.
    pub raw: &'a [u8],
}
