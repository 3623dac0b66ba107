//! Totals per thread and key.

use aya_ebpf::bindings::BPF_NOEXIST;
use kvm_ebpf_common::{CachedRow, Key, Row, RowKey, Span, row_cache_index};

use crate::{
    maps::{CAUSES, FREE_ROWS, ROW_OF, ROWS},
    publish, settings,
    thread_entry::Entry,
};

/// Adds a span to its row; false when there is no room for another row.
#[inline(always)]
pub(crate) fn add<const PLAIN: bool>(entry: &mut Entry, span: &Span, epoch: u64) -> bool {
    let Some((index, row)) = of(entry, &span.key) else {
        return false;
    };
    if !PLAIN
        && settings::causes()
        && entry.cause.kind != 0
        && let Some(causes) = CAUSES.get_ptr_mut(index)
    {
        // SAFETY: at the row's index, and as exclusive as the row.
        unsafe { (*causes).add(entry.cause, span.total_ns) };
    }
    row.stats.add(span, epoch);
    true
}

/// Adds what has no time to its row; false when there is no room for another row.
#[inline(always)]
pub(crate) fn add_untimed(entry: &mut Entry, key: &Key) -> bool {
    let row = of(entry, key);
    row.map(|(_, row)| row.stats.add_untimed()).is_some()
}

/// A key's row and its index.
#[inline(always)]
fn of(entry: &mut Entry, key: &Key) -> Option<(u32, &'static mut Row)> {
    let row_key = RowKey {
        thread: u64::from(entry.index),
        key: *key,
    };
    let near = &entry.row_cache[row_cache_index(key)];
    if near.row != 0 && near.code == key.code && near.subcode == key.subcode {
        return at(near.row - 1);
    }
    // SAFETY: a copy of a number that this thread itself has put in.
    let index = match unsafe { ROW_OF.get(row_key) } {
        Some(index) => *index,
        None => make(entry, &row_key)?,
    };
    entry.row_cache[row_cache_index(key)] = CachedRow {
        code: key.code,
        subcode: key.subcode,
        row: index + 1,
    };
    at(index)
}

#[inline(always)]
fn at(index: u32) -> Option<(u32, &'static mut Row)> {
    let row = ROWS.get_ptr_mut(index)?;
    // SAFETY: the map's value. The row is the current thread's: what holds for its `Entry` holds here.
    Some((index, unsafe { &mut *row }))
}

/// Gives a key a row, and adds it to the thread's list, through which user space finds it.
#[inline(always)]
fn make(entry: &mut Entry, key: &RowKey) -> Option<u32> {
    let index = FREE_ROWS.pop().ok()??;
    if ROW_OF.insert(key, index, u64::from(BPF_NOEXIST)).is_err() {
        let _ = FREE_ROWS.push(index, 0);
        return None;
    }
    let (_, row) = at(index)?;
    // All else is zero, as user space has left it.
    row.key = key.key;
    row.thread = key.thread + 1;
    row.next = entry.first_row;
    // SAFETY: in the map's value; only this thread's programs write it.
    unsafe { publish::store_release(&raw mut entry.first_row, u64::from(index) + 1) };
    Some(index)
}
