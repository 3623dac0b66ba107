//! The period of a recording: from its first to its last event, whatever is selected of it.

/// The time from the first to the last event of any kind, in ns of the clock of the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

impl Period {
    /// Adds the time of an event. A period without events is `None`.
    #[inline]
    pub(super) fn add_time(period: &mut Option<Self>, time_ns: u64) {
        let (first_ns, last_ns) = (time_ns, time_ns);
        Self::add(period, Self { first_ns, last_ns });
    }

    /// Adds the events of another period.
    #[inline]
    pub(super) fn add(period: &mut Option<Self>, other: Self) {
        let known = period.get_or_insert(other);
        known.first_ns = known.first_ns.min(other.first_ns);
        known.last_ns = known.last_ns.max(other.last_ns);
    }
}
