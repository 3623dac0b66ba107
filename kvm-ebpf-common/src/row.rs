//! Rows: the statistics of one thread and key, and how a thread finds them.

use crate::{ExitStats, Key};

/// Statistics of one thread and key.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of the thread's [`VcpuThread`](crate::VcpuThread) plus one; 0 if the row is unused.
    pub thread: u64,
    /// Index plus one of the next older row of the thread; 0 if there is none.
    pub next: u64,
    /// Key of the counted spans.
    pub key: Key,
    /// Statistics of the counted spans.
    pub stats: ExitStats,
}

/// Key of the map from thread and key to the index of the row.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowKey {
    /// Index of the thread's [`VcpuThread`](crate::VcpuThread).
    pub thread: u64,
    /// Key of the counted spans.
    pub key: Key,
}

/// Number of entries of a thread's row cache.
pub const ROW_CACHE_ENTRIES: usize = 32;

/// Entry of a thread's row cache, which avoids a lookup in a hash map.
#[repr(C)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedRow {
    /// [`Key::code`] of the row.
    pub code: u64,
    /// [`Key::subcode`] of the row.
    pub subcode: u32,
    /// Index of the row plus one; 0 if the entry is unused.
    pub row: u32,
}

/// Returns the index of a key in a thread's row cache.
///
/// The common exit reasons of VMX have different indices, and so have those of SVM.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "only the lowest bits are used"
)]
pub const fn row_cache_index(key: &Key) -> usize {
    let code = key.code;
    let mixed = code ^ (code >> 10).wrapping_mul(9) ^ (code >> 12) ^ key.subcode as u64;
    mixed as usize % ROW_CACHE_ENTRIES
}

const _: () = assert!(size_of::<Row>() == 32 + size_of::<ExitStats>());
const _: () = assert!(size_of::<RowKey>() == 24);

crate::pod::pod!(Row, RowKey, CachedRow);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_exit_reasons_have_different_cache_entries() {
        let vmx = [1, 7, 10, 12, 18, 28, 30, 31, 32, 40, 45, 48, 49, 52, 54, 56];
        let svm = [
            0x60, 0x64, 0x6e, 0x72, 0x77, 0x78, 0x7b, 0x7c, 0x400, 0x401, 0x402,
        ];
        for (subcode, codes) in [(1, &vmx[..]), (2, &svm[..])] {
            let mut keys_per_entry = [0; ROW_CACHE_ENTRIES];
            for &code in codes {
                keys_per_entry[row_cache_index(&Key {
                    code,
                    subcode,
                    kind: 0,
                })] += 1;
            }
            assert!(
                keys_per_entry.iter().all(|keys| *keys <= 1),
                "{subcode}: {keys_per_entry:?}"
            );
        }
    }
}
