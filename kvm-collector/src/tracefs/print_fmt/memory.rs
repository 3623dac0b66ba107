//! The places of a record that expressions may point to.

use super::ctype::CType;
use super::num::{Fault, load};

/// A run of bytes in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// An array inside the fixed part.
    Fixed { offset: usize, size: usize },
    /// An array behind the fixed part. The word at `at` has its place in the low 16 bits (counted from the record's
    /// start, or, for `__rel_loc`, from the end of the word) and its size in the high 16.
    Dynamic { at: usize, relative: bool },
}

impl Memory {
    pub(super) fn bytes(self, record: &[u8]) -> Result<&[u8], Fault> {
        let (start, size) = match self {
            Memory::Fixed { offset, size } => (offset, size),
            Memory::Dynamic { at, relative } => {
                let word =
                    usize::try_from(load(record, at, CType::U32)?).map_err(|_| Fault::Truncated)?;
                let base = if relative { at + 4 } else { 0 };
                (base + (word & 0xffff), word >> 16)
            }
        };
        let end = start.checked_add(size).ok_or(Fault::Truncated)?;
        record.get(start..end).ok_or(Fault::Truncated)
    }

    /// The bytes up to the first NUL: a C string.
    pub(super) fn chars(self, record: &[u8]) -> Result<&[u8], Fault> {
        self.bytes(record).map(until_nul)
    }
}

/// What C sees of `bytes` as a string.
pub(in crate::tracefs) fn until_nul(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..length]
}
