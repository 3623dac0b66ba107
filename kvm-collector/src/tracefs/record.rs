//! Reads integers, arrays and strings from the bytes of a trace record.

use super::ctype::CType;

/// Why a value cannot be read or computed. The error text is printed instead of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueError {
    /// The record ends before the value does.
    Truncated,
    /// C does not define the result: division by zero, `MIN / -1`, an index outside its array.
    Undefined,
}

impl ValueError {
    /// Returns the text that is printed in place of the value.
    pub(super) const fn text(self) -> &'static [u8] {
        match self {
            ValueError::Truncated => b"<truncated>",
            ValueError::Undefined => b"<undefined>",
        }
    }
}

/// Where the bytes of an array are in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArrayLocation {
    /// Inside the fixed part of the record.
    Fixed { offset: usize, size: usize },
    /// After the fixed part. The 32-bit word at `word_offset` holds the array's size in its high 16
    /// bits and its offset in its low 16 bits. The offset counts from the start of the record, or, if
    /// `relative` (`__rel_loc`), from the end of the word.
    Dynamic { word_offset: usize, relative: bool },
}

impl ArrayLocation {
    /// Returns the bytes of the array.
    pub(super) fn bytes(self, record: &[u8]) -> Result<&[u8], ValueError> {
        let (start, size) = match self {
            ArrayLocation::Fixed { offset, size } => (offset, size),
            ArrayLocation::Dynamic {
                word_offset,
                relative,
            } => {
                let word = usize::try_from(read_int(record, word_offset, CType::U32)?)
                    .map_err(|_| ValueError::Truncated)?;
                let base = if relative { word_offset + 4 } else { 0 };
                (base + (word & 0xffff), word >> 16)
            }
        };
        let end = start.checked_add(size).ok_or(ValueError::Truncated)?;
        record.get(start..end).ok_or(ValueError::Truncated)
    }

    /// Returns the bytes up to the first NUL.
    pub(super) fn c_string(self, record: &[u8]) -> Result<&[u8], ValueError> {
        self.bytes(record).map(until_nul)
    }
}

/// Returns the bytes before the first NUL, or all bytes if there is none.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let length = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..length]
}

/// Reads an integer of type `ctype` in the byte order of this machine. Returns it in the 64-bit form
/// of [`CType::wrap`].
#[inline]
pub(super) fn read_int(bytes: &[u8], offset: usize, ctype: CType) -> Result<u64, ValueError> {
    let rest = bytes.get(offset..).ok_or(ValueError::Truncated)?;
    let raw = match ctype.size {
        1 => rest.first().map(|byte| u64::from(*byte)),
        2 => rest
            .first_chunk()
            .map(|raw| u64::from(u16::from_ne_bytes(*raw))),
        4 => rest
            .first_chunk()
            .map(|raw| u64::from(u32::from_ne_bytes(*raw))),
        _ => rest.first_chunk().map(|raw| u64::from_ne_bytes(*raw)),
    };
    raw.map(|raw| ctype.wrap(raw)).ok_or(ValueError::Truncated)
}
