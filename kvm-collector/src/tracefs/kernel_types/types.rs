//! What a print format can ask about the types of a kernel.

use std::fmt::Debug;

/// The lowest bit and the number of bits of an unsigned member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BitRange {
    first: u16,
    count: u8,
}

impl BitRange {
    /// Creates a range of 1 to 64 bits. `None` for another number.
    #[must_use]
    pub fn new(first: u16, count: u8) -> Option<Self> {
        let fits = (1..=64).contains(&count) && first <= u16::MAX - u16::from(count);
        fits.then_some(Self { first, count })
    }

    /// Returns the lowest bit, counted from the start of the struct or union.
    #[must_use]
    pub fn first(self) -> u16 {
        self.first
    }

    /// Returns the number of bits.
    #[must_use]
    pub fn count(self) -> u8 {
        self.count
    }

    /// Returns where this range is within `outer`: the distance of the lowest bits, and the number of
    /// bits. `None` if it is not completely within.
    #[must_use]
    pub fn within(self, outer: Self) -> Option<Self> {
        let first = self.first.checked_sub(outer.first)?;
        let fits = first + u16::from(self.count) <= u16::from(outer.count);
        fits.then_some(Self {
            first,
            count: self.count,
        })
    }
}

/// Knows types of one kernel. What it does not know for certain is `None`.
pub trait KernelTypes: Debug + Send + Sync {
    /// Returns the bits of an unsigned member. `type_name` includes the keyword: `union x`.
    fn member_bits(&self, type_name: &str, member: &str) -> Option<BitRange>;

    /// Returns the value of an enumerator.
    fn enumerator(&self, name: &str) -> Option<i64>;
}
