//! Exit statistics per thread and key.

use aya_ebpf::bindings::BPF_NOEXIST;
use kvm_ebpf_common::{CachedRow, Key, Row, RowKey, Span, row_cache_index};

use crate::{
    atomics,
    maps::{CAUSES, FREE_ROWS, ROW_BY_KEY, ROWS},
    settings,
    thread_entry::ThreadEntry,
};

/// Adds a span to its row. Returns false if no row is free.
#[inline(always)]
pub(crate) fn add<const REASONS_ONLY: bool>(
    entry: &mut ThreadEntry,
    span: &Span,
    epoch: u64,
) -> bool {
    let Some((index, row)) = find_or_insert(entry, &span.key) else {
        return false;
    };
    if !REASONS_ONLY
        && settings::stores_causes()
        && entry.cause.kind != 0
        && let Some(causes) = CAUSES.get_ptr_mut(index)
    {
        // SAFETY: the value of the map. Only the programs that may change the row change its causes.
        unsafe { (*causes).add(entry.cause, span.total_ns) };
    }
    row.stats.add(span, epoch);
    true
}

/// Counts a span without a duration in its row. Returns false if no row is free.
#[inline(always)]
pub(crate) fn add_untimed(entry: &mut ThreadEntry, key: &Key) -> bool {
    let row = find_or_insert(entry, key);
    row.map(|(_, row)| row.stats.add_untimed()).is_some()
}

/// Returns the row of a key, and its index.
#[inline(always)]
fn find_or_insert(entry: &mut ThreadEntry, key: &Key) -> Option<(u32, &'static mut Row)> {
    let row_key = RowKey {
        thread: u64::from(entry.index),
        key: *key,
    };
    let cached = &entry.row_cache[row_cache_index(key)];
    if cached.row != 0 && cached.code == key.code && cached.subcode == key.subcode {
        return row_at(cached.row - 1);
    }
    // SAFETY: the value is copied. Only this thread inserts this key.
    let index = match unsafe { ROW_BY_KEY.get(row_key) } {
        Some(index) => *index,
        None => insert(entry, &row_key)?,
    };
    entry.row_cache[row_cache_index(key)] = CachedRow {
        code: key.code,
        subcode: key.subcode,
        row: index + 1,
    };
    row_at(index)
}

#[inline(always)]
fn row_at(index: u32) -> Option<(u32, &'static mut Row)> {
    let row = ROWS.get_ptr_mut(index)?;
    // SAFETY: the value of the map. The row belongs to the current thread, so the reasons given at
    // `ThreadEntry` apply here too.
    Some((index, unsafe { &mut *row }))
}

/// Takes a free row for a key, and adds it to the thread's list of rows, which user space reads.
#[inline(always)]
fn insert(entry: &mut ThreadEntry, key: &RowKey) -> Option<u32> {
    let index = FREE_ROWS.pop().ok()??;
    if ROW_BY_KEY
        .insert(key, index, u64::from(BPF_NOEXIST))
        .is_err()
    {
        let _ = FREE_ROWS.push(index, 0);
        return None;
    }
    let (_, row) = row_at(index)?;
    // User space has set the other fields to zero.
    row.key = key.key;
    row.thread = key.thread + 1;
    row.next = entry.first_row;
    // SAFETY: in the value of the map. Only programs in this thread write it.
    unsafe { atomics::store_release(&raw mut entry.first_row, u64::from(index) + 1) };
    Some(index)
}
